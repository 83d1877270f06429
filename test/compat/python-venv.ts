// Python packages that nobody here wrote, in a virtual environment of their own, at the versions that requirements.txt beside the test pins.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { mustRun } from '../story/served-ca.ts'
import { cached } from './cache.ts'
import { type FoundSubject, type Programs, type Subject, versionIn } from './subject.ts'

export interface PythonPackage {
  /** As docs/compatibility.md calls it, and as the registry does. */
  readonly name: string
  /** With requirements.txt. */
  readonly folder: string
}

const requirementsOf = ({ folder }: PythonPackage): string => readFileSync(join(folder, 'requirements.txt'), 'utf8')

/** Debian has venv and pip in packages of their own. @throws where one is missing */
const checkPython = ({ path }: Programs): string => {
  execFileSync(path('python3'), ['-c', 'import venv, ensurepip'], { stdio: 'pipe' })
  return versionIn(execFileSync(path('python3'), ['--version'], { encoding: 'utf8' }))
}

export const pythonSubject = (of: PythonPackage): Subject => ({
  name: of.name,
  programs: ['python3'],
  version: found => {
    checkPython(found)
    const [, version] = new RegExp(`^${of.name}==(\\S+)$`, 'm').exec(requirementsOf(of)) ?? []
    if (version === undefined) throw new Error(`requirements.txt does not name ${of.name}`)
    return version
  },
  from: `PyPI: ${of.name}`,
})

/** @returns its interpreter */
export const pythonWith = async (of: PythonPackage, found: FoundSubject): Promise<string> => {
  const directory = await cached(`python-${of.name}`, [requirementsOf(of), checkPython(found)], async made => {
    const around = { cwd: made }
    await mustRun(found.path('python3'), ['-m', 'venv', 'env'], around)
    const install = [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--no-deps',
      '--requirement',
      join(of.folder, 'requirements.txt'),
    ]
    await mustRun(join(made, 'env/bin/python3'), install, around)
  })
  return join(directory, 'env/bin/python3')
}
