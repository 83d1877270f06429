// Programs in Go: those of this suite, and others' by their module, at the version that go.mod and go.sum beside the test pin. Compiled once.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { mustRun } from '../story/served-ca.ts'
import { cached } from './cache.ts'
import { type FoundSubject, isAtLeast, type Subject, versionIn } from './subject.ts'

/** For checks that may be the first to compile, on a machine that is busy with others. */
export const compileMs = 600_000

export interface GoProgram {
  /** As docs/compatibility.md calls it. */
  readonly name: string
  /** Beside the test: go.mod, go.sum and perhaps sources. */
  readonly folder: string
  /** Whose version counts; a requirement of go.mod. */
  readonly module: string
}

const envOf = (): NodeJS.ProcessEnv => ({
  ...process.env,
  // What go.mod says and nothing else: no newer module, no newer compiler fetched meanwhile.
  GOFLAGS: '-mod=readonly -buildvcs=false',
  GOTOOLCHAIN: 'local',
})

const goModOf = ({ folder }: GoProgram): string => readFileSync(join(folder, 'go.mod'), 'utf8')

const versionOfModule = (program: GoProgram): string => {
  const [, version] = new RegExp(`\\s${program.module} v(\\S+)`).exec(goModOf(program)) ?? []
  if (version === undefined) throw new Error(`go.mod does not require ${program.module}`)
  return version
}

/** Distributions keep old compilers; go.mod says which one it takes. */
const checkCompiler = (program: GoProgram, go: string): string => {
  const version = versionIn(execFileSync(go, ['version'], { encoding: 'utf8', env: envOf() }))
  const wanted = /^go (\S+)$/m.exec(goModOf(program))?.[1] as string
  if (!isAtLeast(version, wanted)) throw new Error(`Go ${version} is too old, ${wanted} is needed`)
  return version
}

export const goSubject = (program: GoProgram): Subject => ({
  name: program.name,
  programs: ['go'],
  version: ({ path }) => {
    checkCompiler(program, path('go'))
    return versionOfModule(program)
  },
  from: `Go module: ${program.module}`,
})

/** @param target a package of a module of go.mod, or `.` for the folder's own @returns the executable */
export const builtGo = async (program: GoProgram, found: FoundSubject, target = '.'): Promise<string> => {
  const { folder } = program
  const go = found.path('go')
  const sources = readdirSync(folder)
    .filter(name => /\.(go|mod|sum)$/.test(name))
    .toSorted()
    .map(name => readFileSync(join(folder, name), 'utf8'))
  const name = `go-${folder.split('/').at(-1)}`
  const directory = await cached(name, [...sources, target, checkCompiler(program, go)], async made => {
    await mustRun(go, ['build', '-trimpath', '-o', join(made, 'program'), target], { cwd: folder, env: envOf() })
  })
  return join(directory, 'program')
}
