// A directory of policies as one set of files: `*.cedar`, `actions.yaml`, `tests/*.yaml`. What else lies there is left alone.
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { PolicyFiles } from '../policy/cedar-compile.ts'
import { loadConfig } from './config-file.ts'
import { CliError } from './errors.ts'
import { unreadable } from './files.ts'
import type { CommandIo } from './io.ts'

const namesIn = (directory: string, shown: string): readonly string[] => {
  try {
    return readdirSync(directory).sort()
  } catch (error) {
    throw unreadable(shown, error)
  }
}

const textOf = (path: string, shown: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw unreadable(shown, error)
  }
}

/**
 * @param named the command's argument; without it the directory `policies` beside the configuration
 * @throws CliError `file_unreadable`, `usage` where there is no policy
 */
export const readPolicies = (
  io: CommandIo,
  named: string | undefined,
  config: string | undefined,
): { readonly directory: string; readonly files: PolicyFiles } => {
  const directory = named ?? loadConfig(io, config).policies
  const path = resolve(io.cwd, directory)
  const here = namesIn(path, directory)
  const tests = here.includes('tests') ? namesIn(join(path, 'tests'), join(directory, 'tests')) : []
  const names = [
    ...here.filter(name => name.endsWith('.cedar') || name === 'actions.yaml' || name === 'actions.yml'),
    ...tests.filter(name => /\.ya?ml$/.test(name)).map(name => `tests/${name}`),
  ]
  if (!names.some(name => name.endsWith('.cedar')))
    throw new CliError('usage', `${directory} has no policies`, { hint: 'expected files *.cedar, and actions.yaml' })
  return {
    directory,
    files: Object.fromEntries(names.map(name => [name, textOf(join(path, name), join(directory, name))])),
  }
}
