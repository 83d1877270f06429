// Servers by the TLS of languages: the programs of docs/integrations/{python,go,java,rust}.md as they stand, compiled once. They find
// /etc/agentca in the directory where they run, and their port as an argument, so that the compiled ones are the same in every run.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { blockWith } from '../../setup/documents.ts'
import { freePort } from '../../setup/free-port.ts'
import { mustRun, runProgram } from '../../story/served-ca.ts'
import { cached } from '../cache.ts'
import { Unavailable } from '../compat.ts'
import type { RelyingParty, RunningServer, Scene } from '../relying-party.ts'
import { fromPage, inScratch, runShell, startServer, untilListening } from '../server-process.ts'
import { type FoundSubject, isAtLeast, type Programs, versionIn } from '../subject.ts'

/** The program of a page. */
const sourceOf = (page: string, language: string, words: string): string =>
  blockWith(`docs/integrations/${page}.md`, language, words).text.replaceAll('/etc/agentca', 'etc')

const versionOf = ({ path }: Programs, program: string, argument = '--version'): string =>
  versionIn(execFileSync(path(program), [argument], { encoding: 'utf8' }))

const started = async (
  scene: Scene,
  port: number,
  [program, ...args]: readonly [string, ...string[]],
  reload: (pidFile: string) => string | null,
): Promise<RunningServer> => {
  const server = startServer(program, args, { cwd: scene.scratch })
  await untilListening(port, server)
  const pidFile = inScratch(scene, 'orders.pid')
  writeFileSync(pidFile, String(server.child.pid))
  const command = reload(pidFile)
  return {
    port,
    reload: async () => {
      if (command !== null) await runShell(scene, command)
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

const byHangup =
  (scene: Scene, page: string, port: number) =>
  (pidFile: string): string =>
    fromPage(scene, page, 'sh', 'kill -HUP', { port, more: { '/run/orders.pid': pidFile } })

/** It looks at its files by itself. */
const byItself = () => null

const python: RelyingParty = {
  subject: {
    name: 'Python ssl',
    programs: ['python3'],
    version: ['--version'],
    from: 'Debian: python3',
    atLeast: '3.9',
  },
  by: 'lists',
  greets: 'for good',
  start: async scene => {
    const port = await freePort()
    const file = inScratch(scene, 'orders.py')
    writeFileSync(file, sourceOf('python', 'python', 'agents_only').replace('9443', String(port)))
    return started(scene, port, [scene.found.path('python3'), file], byHangup(scene, 'python', port))
  },
}

const builtGo = async ({ path }: FoundSubject): Promise<string> => {
  const source = sourceOf('go', 'go', 'agentsOnly')
  const directory = await cached('go-orders', [source, versionOf({ path }, 'go', 'version')], async made => {
    writeFileSync(join(made, 'main.go'), source)
    await mustRun(path('go'), ['build', '-o', 'orders', 'main.go'], { cwd: made })
  })
  return join(directory, 'orders')
}

const go: RelyingParty = {
  subject: {
    name: 'Go crypto/tls',
    programs: ['go'],
    version: ['version'],
    from: 'Debian: golang-go',
    atLeast: '1.21',
  },
  by: 'lists',
  greets: 'for good',
  start: async scene => {
    const port = await freePort()
    const program = await builtGo(scene.found)
    return started(scene, port, [program, `127.0.0.1:${port}`], byHangup(scene, 'go', port))
  },
}

const builtJava = async ({ path, version }: FoundSubject, by: RelyingParty['by']): Promise<string> => {
  let source = sourceOf('java', 'java', 'agentsOnly')
  if (by === 'OCSP')
    source = source.replace(/^ *revocation\.setOptions\(.*\n/m, sourceOf('java', 'java', 'ONLY_END_ENTITY'))
  return cached('java-orders', [source, version], async made => {
    writeFileSync(join(made, 'Orders.java'), source)
    await mustRun(path('javac'), ['Orders.java'], { cwd: made })
  })
}

const java = (by: 'lists' | 'OCSP'): RelyingParty => ({
  subject: {
    name: 'Java JSSE',
    programs: ['java', 'javac'],
    version: ['-version'],
    from: 'Debian: default-jdk-headless',
    atLeast: '17',
  },
  by,
  greets: 'for good',
  start: async scene => {
    const port = await freePort()
    const classes = await builtJava(scene.found, by)
    return started(scene, port, [scene.found.path('java'), '-cp', classes, 'Orders', String(port)], byItself)
  },
})

/** The versions below rustls: what the page's requirements came to when this was tried. */
const lockFile = join(import.meta.dirname, '../rust/Cargo.lock')
const rustlsNeeds = '1.71'

const builtRust = async ({ path }: FoundSubject): Promise<string> => {
  const [manifest, source] = [sourceOf('rust', 'toml', 'rustls'), sourceOf('rust', 'rust', 'agents_only')]
  const lock = readFileSync(lockFile, 'utf8')
  const directory = await cached('rust-orders', [manifest, source, lock, versionOf({ path }, 'cargo')], async made => {
    mkdirSync(join(made, 'src'))
    writeFileSync(join(made, 'Cargo.toml'), manifest)
    writeFileSync(join(made, 'src/main.rs'), source)
    copyFileSync(lockFile, join(made, 'Cargo.lock'))
    const { code, out, err } = await runProgram(path('cargo'), ['build', '--locked', '--quiet'], { cwd: made })
    if (code === 0) return
    const said = `cargo build: ${out}${err}`
    throw /failed to (?:download|fetch|get)|[Cc]ould not resolve|network/.test(said)
      ? new Unavailable(said)
      : new Error(said)
  })
  return join(directory, 'target/debug/orders')
}

const rust: RelyingParty = {
  subject: {
    name: 'Rust rustls',
    programs: ['cargo'],
    version: found => {
      const cargo = versionOf(found, 'cargo')
      if (!isAtLeast(cargo, rustlsNeeds)) throw new Error(`cargo ${cargo} is too old, ${rustlsNeeds} is needed`)
      return /name = "rustls"\nversion = "(.*)"/.exec(readFileSync(lockFile, 'utf8'))?.[1] ?? ''
    },
    from: 'crate: rustls',
  },
  by: 'lists',
  greets: 'for good',
  start: async scene => {
    const port = await freePort()
    return started(scene, port, [await builtRust(scene.found), `127.0.0.1:${port}`], byItself)
  },
}

export const languages = [python, go, java('lists'), java('OCSP'), rust]
