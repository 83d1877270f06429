// The directory of the sockets: ours alone, although with a long AGENTCA_HOME it lies where everybody may make one of its name first.
import { chmodSync, lstatSync, mkdirSync } from 'node:fs'
import { ServerError } from './errors.ts'

/** @throws ServerError `run_directory_unsafe` */
export const makeRunDirectory = (directory: string): void => {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const found = lstatSync(directory)
  if (!found.isDirectory() || found.uid !== process.geteuid?.())
    throw new ServerError('run_directory_unsafe', `${directory} is not a directory of this user`, {
      hint: 'find out who made it, remove it, and start again',
    })
  chmodSync(directory, 0o700)
}
