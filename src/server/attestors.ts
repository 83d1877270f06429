// The directory of attestors: one file each, its name the file's. Read at start and at SIGHUP; all faults of all files at once, and then
// what was in force stays. An identity provider that does not answer is no fault of a file: the server starts without it.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { messageOf } from '../base/errors.ts'
import type { Attestor, AttestorDeps, ListedAttestor } from '../enrol/attestor.ts'
import { createJwtAttestor } from '../enrol/jwt.ts'
import { createX509Attestor } from '../enrol/x509.ts'
import { type AttestorSettings, faultsOfAttestors, parseAttestor } from '../schema/attestor.ts'
import { type Fault, SchemaError } from '../schema/errors.ts'

const extension = '.yaml'
const nameForm = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/

/** Files that an attestor names are sought from its own. */
const placed = (settings: AttestorSettings, directory: string): AttestorSettings => {
  const from = (file: string): string => resolve(directory, file)
  if (settings.kind === 'jwt') {
    const { keys } = settings
    if (keys.from === 'file') return { ...settings, keys: { ...keys, file: from(keys.file) } }
    const { caFile, bearerFile } = keys
    return {
      ...settings,
      keys: {
        ...keys,
        ...(caFile === undefined ? {} : { caFile: from(caFile) }),
        ...(bearerFile === undefined ? {} : { bearerFile: from(bearerFile) }),
      },
    }
  }
  const { intermediatesFile, crlFile } = settings
  return {
    ...settings,
    anchorsFile: from(settings.anchorsFile),
    ...(intermediatesFile === undefined ? {} : { intermediatesFile: from(intermediatesFile) }),
    ...(crlFile === undefined ? {} : { crlFile: from(crlFile) }),
  }
}

/** @throws SchemaError with every fault of the file */
export const readAttestor = (file: string): AttestorSettings => {
  const name = basename(file, extension)
  if (!nameForm.test(name))
    throw new SchemaError(file, [{ path: '', problem: 'expected a name of a-z, 0-9 and dash before .yaml' }])
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new SchemaError(file, [{ path: '', problem: messageOf(error) }])
  }
  return placed(parseAttestor(name, text), dirname(file))
}

const filesOf = (directory: string): readonly string[] => {
  // Most CAs have none.
  if (!existsSync(directory)) return []
  try {
    return readdirSync(directory)
      .filter(file => /\.ya?ml$/.test(file) && !file.startsWith('.'))
      .sort()
  } catch (error) {
    throw new SchemaError(directory, [{ path: '', problem: messageOf(error) }])
  }
}

/** @throws SchemaError with every fault of every file, each path `<file>` or `<file>:<key>` */
export const loadAttestors = (directory: string): readonly AttestorSettings[] => {
  const settings: AttestorSettings[] = []
  const faults: Fault[] = []
  for (const file of filesOf(directory))
    try {
      settings.push(readAttestor(join(directory, file)))
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error
      for (const { path, problem } of error.faults)
        faults.push({ path: path === '' ? file : `${file}:${path}`, problem })
    }
  faults.push(...faultsOfAttestors(settings))
  if (faults.length > 0) throw new SchemaError(directory, faults)
  return settings
}

const listed = (settings: AttestorSettings, attestors: readonly Attestor[]): ListedAttestor => {
  const { name, kind, rules } = settings
  return (
    attestors.find(each => each.name === name)?.status() ?? {
      ...{ name, kind, rules: rules.length, state: 'off', problem: null, keys: 0, updatedAt: null },
      authority: settings.kind === 'jwt' ? settings.issuer : settings.anchorsFile,
    }
  )
}

export interface Attestors {
  current(): readonly Attestor[]
  /** Those that are switched off included. */
  list(): readonly ListedAttestor[]
  /** Reads the directory again; one of both follows, since those that are opened fetch keys. @throws SchemaError with every fault */
  prepareReload(): { putInForce(): void; discard(): void }
  close(): void
}

const closeAll = (attestors: readonly Attestor[]): void => {
  for (const attestor of attestors) attestor.close()
}

/** @throws SchemaError with every fault: also of what the files name and must be there */
const openAll = (settings: readonly AttestorSettings[], directory: string, deps: AttestorDeps): readonly Attestor[] => {
  const opened: Attestor[] = []
  const faults: Fault[] = []
  for (const each of settings.filter(({ enabled }) => enabled))
    try {
      opened.push(openAttestor(each, deps))
    } catch (error) {
      faults.push({ path: `${each.name}${extension}`, problem: messageOf(error) })
    }
  if (faults.length === 0) return opened
  closeAll(opened)
  throw new SchemaError(directory, faults)
}

export const openAttestors = (directory: string | null, deps: AttestorDeps): Attestors => {
  const load = (): { readonly settings: readonly AttestorSettings[]; readonly attestors: readonly Attestor[] } => {
    if (directory === null) return { settings: [], attestors: [] }
    const settings = loadAttestors(directory)
    return { settings, attestors: openAll(settings, directory, deps) }
  }
  // Replaced as a whole by a reload; those that go are closed, and answer what they were asked before.
  let now = load()
  return {
    current: () => now.attestors,
    list: () => now.settings.map(each => listed(each, now.attestors)),
    prepareReload: () => {
      const next = load()
      return {
        putInForce: () => {
          closeAll(now.attestors)
          now = next
        },
        discard: () => closeAll(next.attestors),
      }
    },
    close: () => closeAll(now.attestors),
  }
}

/** @throws Error where a file that it cannot do without is missing */
export const openAttestor = (settings: AttestorSettings, deps: AttestorDeps): Attestor =>
  settings.kind === 'jwt' ? createJwtAttestor(settings, deps) : createX509Attestor(settings, deps)
