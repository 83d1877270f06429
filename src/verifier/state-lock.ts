// One process keeps its state in a directory: two would each write what follows its own base, and the next start could read neither.
import { mkdir } from 'node:fs/promises'
import { type DirectoryLock, type DirectoryUse, lockDirectory } from '../agent/directory-lock.ts'
import { AgentError } from '../agent/errors.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'

const keeping: DirectoryUse = {
  word: 'verifier',
  refused: (directory, pid) =>
    AgentError.of('directory_in_use', `process ${pid} keeps the state of a verifier in ${directory}`, {
      hint: `give each process a directory of its own; should ${pid} be of a container that is gone, its lock ends a minute after it`,
      facts: { pid },
    }),
}

/** @throws AgentError `directory_in_use`; AgentCaError `state_unwritable` */
export const lockStateDirectory = async (directory: string): Promise<DirectoryLock> => {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    return await lockDirectory(directory, keeping)
  } catch (cause) {
    if (cause instanceof AgentError) throw cause
    throw new AgentCaError('state_unwritable', `${directory} cannot be written: ${messageOf(cause)}`, {
      hint: `mkdir -p ${directory}, writable for whoever runs this`,
      cause,
    })
  }
}
