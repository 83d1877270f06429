// Users and groups by name, as the machine knows them (files, LDAP, whatever its name service has): Node itself only knows numbers.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { CliError } from './errors.ts'

const run = promisify(execFile)

const idOf = async (database: 'passwd' | 'group', what: string, name: string): Promise<number> => {
  if (/^\d{1,10}$/.test(name)) return Number(name)
  try {
    const { stdout } = await run('getent', ['--', database, name])
    const id = Number(stdout.split(':')[2])
    if (Number.isSafeInteger(id)) return id
  } catch {
    // Told below: getent's own exit code says no more.
  }
  throw new CliError('usage', `there is no ${what} ${name} on this machine`, { hint: `getent ${database}` })
}

/** @throws CliError `usage` */
export const userId = (name: string): Promise<number> => idOf('passwd', 'user', name)

/** @throws CliError `usage` */
export const groupId = (name: string): Promise<number> => idOf('group', 'group', name)
