// Where `init` and the ceremonies after it find the tokens and files of a home, and what they are called.
import { join } from 'node:path'
import type { Config } from '../schema/config.ts'
import type { TokenTarget } from './ceremony/token-target.ts'
import type { HomePaths } from './home.ts'
import { onlineTokenLabel } from './signer-config.ts'

export const rootName = 'root-1'
export const issuingName = 'issuing-1'
export const rootTokenLabel = 'agentca-root'

export interface InitPlace {
  readonly config: Pick<Config, 'hsm'>
  readonly paths: HomePaths
  /** Path of SoftHSM2's module; default: Debian's. */
  readonly softhsmModule?: string
}

const moduleOf = (modulePath: string | undefined) => (modulePath === undefined ? {} : { modulePath })

/** The token of the issuing CA's key: the configured one, or SoftHSM2 in the home. */
export const onlineTarget = ({ config, paths, softhsmModule }: InitPlace): TokenTarget => {
  const { uri, softhsmConf } = config.hsm
  // The signer keeps its PIN latch there: one latch a PIN, whoever tries it.
  if (uri !== undefined) return { kind: 'uri', uri, softhsmConf, latchDirectory: paths.signer }
  return { kind: 'softhsm', directory: paths.tokens, label: onlineTokenLabel, ...moduleOf(softhsmModule) }
}

export const rootTarget = ({ paths, softhsmModule }: Omit<InitPlace, 'config'>): TokenTarget => ({
  kind: 'softhsm',
  directory: paths.rootCeremony,
  label: rootTokenLabel,
  ...moduleOf(softhsmModule),
})

/** PEM of a root or issuing CA. */
export const caFile = (paths: Pick<HomePaths, 'issuers'>, name: string): string => join(paths.issuers, `${name}.pem`)

/** DER of a root's CRL, where the status listener finds it. */
export const rootCrlFile = (paths: Pick<HomePaths, 'status'>, name: string): string =>
  join(paths.status, 'crl', `${name}.crl`)
