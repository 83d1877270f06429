// `init.json`: what a home was initialised as, and whether that has ended. Written before anything is made and again when everything
// is there, so that an interrupted `init` goes on as what it began, and a finished one is known without opening the ledger.
import { join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { readIfPresent, writeDurably } from '../signer/durable-file.ts'
import { CeremonyError } from './ceremony/errors.ts'
import type { HomePaths } from './home.ts'

export interface InitRecord {
  readonly version: 1
  readonly state: 'begun' | 'done'
  readonly caId: string
  readonly trustDomain: string
  /** Written into certificates. */
  readonly urls: { readonly api: string; readonly status: string }
  /** The configured token; null for the SoftHSM2 token in the home. */
  readonly hsmUri: string | null
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  /** `sha256:HEX` of the root certificate; null until it is known. */
  readonly rootFingerprint: string | null
}

const fileOf = (paths: Pick<HomePaths, 'home'>): string => join(paths.home, 'init.json')

const isRecord = (value: unknown): value is InitRecord => {
  const record = value as Partial<InitRecord> | null
  return (
    typeof record === 'object' &&
    record?.version === 1 &&
    (record.state === 'begun' || record.state === 'done') &&
    [record.caId, record.trustDomain, record.urls?.api, record.urls?.status].every(text => typeof text === 'string') &&
    typeof record.createdAt === 'number'
  )
}

/** @returns null when no `init` has begun here @throws CeremonyError `home_damaged` */
export const readInitRecord = (paths: Pick<HomePaths, 'home'>): InitRecord | null => {
  const file = fileOf(paths)
  const text = readIfPresent(file)
  if (text === null) return null
  const damaged = (why: string): CeremonyError =>
    new CeremonyError('home_damaged', `${file} cannot be read: ${why}`, {
      hint: 'restore it from a backup of this home',
    })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw damaged(messageOf(error))
  }
  if (!isRecord(value)) throw damaged('it is not what init writes')
  return value
}

export const writeInitRecord = (paths: Pick<HomePaths, 'home'>, record: InitRecord): void =>
  writeDurably(fileOf(paths), `${JSON.stringify(record, null, 2)}\n`)

/** Whether a server can start in this home. @throws CeremonyError `home_damaged` */
export const isInitialised = (paths: Pick<HomePaths, 'home'>): boolean => readInitRecord(paths)?.state === 'done'
