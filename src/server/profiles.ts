// The directory of profiles to a profile book: one file a profile, its name the file's. Read at start and at SIGHUP; all faults of all
// files at once, and then nothing of the directory is used.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { faultsOfProfile } from '../policy/ceilings.ts'
import { createProfileBook, type ProfileBook } from '../policy/profile-book.ts'
import { type Fault, SchemaError } from '../schema/errors.ts'
import { type Profile, parseProfile } from '../schema/profile.ts'

const extension = '.yaml'
const nameForm = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/

/** A profile, or the faults of its file; only what is no fault of the text is thrown. */
const readProfile = (directory: string, file: string): Profile | readonly Fault[] => {
  const name = basename(file, extension)
  if (!nameForm.test(name)) return [{ path: '', problem: 'expected a name of a-z, 0-9 and dash before .yaml' }]
  try {
    const profile = parseProfile(name, readFileSync(join(directory, file), 'utf8'))
    const faults = faultsOfProfile(profile)
    return faults.length === 0 ? profile : faults
  } catch (error) {
    return error instanceof SchemaError ? error.faults : [{ path: '', problem: messageOf(error) }]
  }
}

const filesOf = (directory: string): readonly string[] => {
  try {
    return readdirSync(directory)
      .filter(file => /\.ya?ml$/.test(file) && !file.startsWith('.'))
      .sort()
  } catch (error) {
    throw new SchemaError(directory, [{ path: '', problem: messageOf(error) }])
  }
}

/** @throws SchemaError with every fault of every file, each path `<file>` or `<file>:<key>` */
export const loadProfiles = (directory: string): ProfileBook => {
  const files = filesOf(directory)
  if (files.length === 0) throw new SchemaError(directory, [{ path: '', problem: 'expected a profile, NAME.yaml' }])
  const profiles: Profile[] = []
  const faults: Fault[] = []
  for (const file of files) {
    const read = readProfile(directory, file)
    if ('kind' in read) profiles.push(read)
    else for (const { path, problem } of read) faults.push({ path: path === '' ? file : `${file}:${path}`, problem })
  }
  if (faults.length > 0) throw new SchemaError(directory, faults)
  return createProfileBook(profiles)
}
