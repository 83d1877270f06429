// What of the configuration goes into a backup, and under which names: as the usual `ca-config/` has them. Of the files that attestors name
// only those that are public: what a provider wants to see before it shows its keys stays a secret of this machine.
import { existsSync, readdirSync } from 'node:fs'
import { extname, join, relative } from 'node:path'
import type { ConfigurationPart } from '../backup/create-backup.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { AttestorSettings } from '../schema/attestor.ts'
import { readAttestor } from '../server/attestors.ts'
import type { LoadedConfig } from './config-file.ts'

/** @returns by what they are for */
const publicFiles = (settings: AttestorSettings): Readonly<Record<string, string | undefined>> => {
  if (settings.kind === 'x509') {
    const { anchorsFile, intermediatesFile, crlFile } = settings
    return { anchors: anchorsFile, intermediates: intermediatesFile, crl: crlFile }
  }
  const { keys } = settings
  return keys.from === 'file' ? { keys: keys.file } : { ca: keys.caFile }
}

const secretFile = (settings: AttestorSettings): string | undefined =>
  settings.kind === 'jwt' && settings.keys.from !== 'file' ? settings.keys.bearerFile : undefined

/** A file with faults goes along as it is, and what it names does not: the server of now may run by an earlier one. */
const readable = (file: string): AttestorSettings | null => {
  try {
    return readAttestor(file)
  } catch (error) {
    if (isAgentCaError(error)) return null
    throw error
  }
}

const attestorParts = (directory: string): readonly ConfigurationPart[] => {
  if (!existsSync(directory)) return []
  const files = readdirSync(directory)
    .filter(name => /\.ya?ml$/.test(name) && !name.startsWith('.'))
    .map(name => join(directory, name))
  const settings = files.map(readable).filter(each => each !== null)
  const named = settings.flatMap(each =>
    Object.entries(publicFiles(each)).flatMap(([role, path]) => {
      if (path === undefined) return []
      const below = relative(directory, path)
      const as = below.startsWith('..') ? `attestor-files/${each.name}/${role}${extname(path)}` : `attestors/${below}`
      return [[as, path] as const]
    }),
  )
  const own = files.map(path => [`attestors/${relative(directory, path)}`, path] as const)
  const secrets = new Set(settings.map(secretFile))
  // Two attestors may name the same file.
  return [...new Map([...own, ...named])].filter(([, path]) => !secrets.has(path)).map(([as, path]) => ({ as, path }))
}

export const configurationParts = (
  loaded: Pick<LoadedConfig, 'file' | 'profiles' | 'policies' | 'attestors' | 'monitor'>,
): readonly ConfigurationPart[] => [
  ...(loaded.file === null ? [] : [{ as: 'agentca.yaml', path: loaded.file }]),
  { as: 'profiles', path: loaded.profiles },
  { as: 'policies', path: loaded.policies },
  ...attestorParts(loaded.attestors),
  ...(loaded.monitor === null ? [] : [{ as: 'monitor.yaml', path: loaded.monitor }]),
]
