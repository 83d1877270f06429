// From an empty AGENTCA_HOME to everything a server needs: tokens, keys, root and issuing CA, root CRL, ledger, first registrations. Goes
// by what is there, not by a list of what was done: run again after a crash at any point, it adopts what is whole and makes the rest.
import { chmodSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../schema/config.ts'
import { loadCryptoki } from '../signer/cryptoki.ts'
import { defaultSofthsmModule } from '../signer/softhsm-token.ts'
import type { Ledger } from '../store/ports.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { CeremonyError } from './ceremony/errors.ts'
import { findJudge } from './ceremony/judge.ts'
import { fingerprintOf } from './ceremony/steps.ts'
import { isMissing, tokenFacts } from './ceremony/token-target.ts'
import { writeFirstOperatorToken } from './first-operator.ts'
import type { HomePaths } from './home.ts'
import { type CeremonyInputs, checkInputs, type ExistingCertificates, makeAuthority } from './init-authority.ts'
import { findFreePort, ownInputs, type PublicUrls, publicUrlsOf } from './init-inputs.ts'
import { fillLedger } from './init-ledger.ts'
import { type InitPlace, onlineTarget, rootCrlFile, rootName, rootTarget } from './init-places.ts'
import { type InitRecord, readInitRecord, writeInitRecord } from './init-record.ts'
import { makeDirectory } from './make-directory.ts'

export { isInitialised } from './init-record.ts'

export interface InitOptions extends InitPlace {
  readonly config: Config
  readonly clock: Clock
  readonly log: Log
  readonly randomBytes: (length: number) => Uint8Array
  /** Reviewed beforehand, instead of init's own. */
  readonly inputs?: Partial<CeremonyInputs>
  readonly existing?: ExistingCertificates
}

export interface InitReport {
  /** `already`: nothing was changed. */
  readonly state: 'initialised' | 'already'
  readonly home: string
  readonly trustDomain: string
  readonly caId: string
  /** `sha256:HEX` of the root certificate's DER, for `agentca enroll --ca-fingerprint`. */
  readonly rootFingerprint: string
  /** RFC 7512, without an object. */
  readonly tokenUri: string
  readonly pinFile: string | null
  /** softhsm2.conf of the online token; null for other tokens. */
  readonly confPath: string | null
  readonly urls: PublicUrls
  /** The root's token, to be moved away from this machine; null when it is not here. */
  readonly rootToken: string | null
  /** File with the first operator's join token. */
  readonly firstOperatorToken: string
  readonly warnings: readonly string[]
}

/**
 * @throws CeremonyError `home_differs` for a home of another trust domain, `home_damaged`, and whatever a ceremony throws; TokenError
 * `module_not_loadable`; StoreError `ledger_in_use` while another process works in this home; SchemaError
 */
export const initHome = async (options: InitOptions): Promise<InitReport> => {
  const { paths, clock, log } = options
  const found = findInit(options)
  // A server may be running: a finished home is told without its ledger.
  if (found?.state === 'done') return report(options, found, 'already')
  const { judge, urls, inputs } = await prepareInit(options, found)
  makeDirectories(paths)
  // Its lock keeps a second init out: opened first, filled last.
  await using ledger = openSqliteLedger(paths.database, { clock, log })
  if (found === null && findInit(options) !== null) {
    // Another init came between: start over from what it left.
    await ledger.close()
    return initHome(options)
  }
  const record = found ?? begin(options, urls, ledger)
  const authority = await makeAuthority({ ...options, judge, inputs })
  await fillLedger(ledger, { record, ...authority, ceremonies: paths.ceremonies, now: clock.now(), log })
  await writeFirstOperatorToken({ clock, ledger, paths, caId: record.caId, randomBytes: options.randomBytes })
  await ledger.close()
  const done: InitRecord = { ...record, state: 'done', rootFingerprint: fingerprintOf(authority.root.der) }
  writeInitRecord(paths, done)
  log.info({ home: paths.home, trustDomain: record.trustDomain }, 'initialised')
  return report(options, done, 'initialised')
}

/** What an earlier `init` left here. @throws CeremonyError `home_differs`, `home_damaged` */
export const findInit = ({ paths, config }: InitOptions): InitRecord | null => {
  const found = readInitRecord(paths)
  if (found !== null) checkSame(found, config)
  return found
}

/** What `init` needs of this machine and this configuration, asked for before the first directory is made. @throws as initHome */
export const prepareInit = async (options: InitOptions, found: InitRecord | null) => {
  const { config, existing, softhsmModule, inputs } = options
  const judge = await findJudge()
  if (existing === undefined || config.hsm.uri === undefined) loadCryptoki(softhsmModule ?? defaultSofthsmModule)
  const urls = found?.urls ?? (await publicUrlsOf(config, findFreePort))
  const own = ownInputs({ trustDomain: config.trustDomain, statusUrl: urls.status })
  return { judge, urls, inputs: checkInputs({ ...own, ...inputs }) }
}

const begin = (options: InitOptions, urls: PublicUrls, ledger: Ledger): InitRecord => {
  const { config, paths, clock, randomBytes } = options
  const caId = ledger.meta.get('ca_id')
  if (caId !== null)
    throw new CeremonyError('home_damaged', `the ledger is of CA ${caId}, but init.json is missing`, {
      hint: 'restore both from the same backup, or begin in an empty home',
    })
  const record: InitRecord = {
    version: 1,
    state: 'begun',
    caId: toHex(randomBytes(16)),
    trustDomain: config.trustDomain,
    urls,
    hsmUri: config.hsm.uri ?? null,
    createdAt: clock.now(),
    rootFingerprint: null,
  }
  writeInitRecord(paths, record)
  return record
}

/** What stands in certificates does not change with a file. @throws CeremonyError `home_differs` */
const checkSame = (record: InitRecord, { publicUrl, hsm, trustDomain }: Config): void => {
  const given: readonly (readonly [name: string, then: string | null, now: string | null | undefined])[] = [
    ['trustDomain', record.trustDomain, trustDomain],
    ['publicUrl.api', record.urls.api, publicUrl.api],
    ['publicUrl.status', record.urls.status, publicUrl.status],
    ['hsm.uri', record.hsmUri, hsm.uri ?? null],
  ]
  const text = (value: string | null | undefined): string => value ?? 'not set'
  const faults = given
    .filter(([, then, now]) => now !== undefined && now !== then)
    .map(([name, then, now]) => `${name} was ${text(then)} when this home was initialised, now it is ${text(now)}`)
  if (faults.length > 0)
    throw new CeremonyError('home_differs', faults.join('; '), {
      hint: 'configure what it was, or initialise another home (--home DIR)',
      facts: { faults },
    })
}

const makeDirectories = ({ home, issuers, ceremonies, signer, status, api, log }: HomePaths): void => {
  for (const directory of [home, issuers, ceremonies, signer, status, join(status, 'crl'), api, log]) {
    makeDirectory(directory)
    chmodSync(directory, 0o700)
  }
}

const report = (options: InitOptions, record: InitRecord, state: InitReport['state']): InitReport => {
  const { paths } = options
  const { uri, pinFile, confPath } = tokenFacts(onlineTarget(options))
  const rootIsHere = !isMissing(rootTarget(options))
  const crlFile = rootCrlFile(paths, rootName)
  return {
    state,
    home: paths.home,
    trustDomain: record.trustDomain,
    caId: record.caId,
    rootFingerprint: record.rootFingerprint ?? '',
    tokenUri: uri,
    pinFile,
    confPath,
    urls: record.urls,
    rootToken: rootIsHere ? paths.rootCeremony : null,
    firstOperatorToken: paths.firstOperatorToken,
    warnings: [
      ...(rootIsHere ? [`the root’s token is on this machine: move ${paths.rootCeremony} to a safe place`] : []),
      ...(existsSync(crlFile)
        ? []
        : [`the root has no CRL here: put it at ${crlFile}, for those who check the whole chain`]),
    ],
  }
}
