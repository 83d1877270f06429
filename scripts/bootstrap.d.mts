// Types of bootstrap.mjs, which is plain JavaScript because it runs before anything is installed.
export interface SetupFacts {
  readonly nodeVersion: string
  readonly nodeMajor: number
  readonly hasNpm: boolean
  readonly hasApt: boolean
  readonly isRoot: boolean
  readonly softhsm: boolean
  readonly openssl: boolean
  readonly compiler: boolean
  readonly make: boolean
  readonly python: boolean
  readonly curl: boolean
  readonly gnutls: boolean
  readonly pythonRequests: boolean
  readonly rsyslog: boolean
  /** Those that are installed. */
  readonly proxies: readonly string[]
  /** Debian packages of `foreignPackages` whose programs are all here. */
  readonly foreign: readonly string[]
  /** `node_modules` is a symbolic link. */
  readonly modulesLinked: boolean
  readonly installed: boolean
}
export type SetupPlan =
  | { readonly problem: string }
  | {
      readonly packages: readonly string[]
      readonly install: boolean
      /** What tests are skipped without. */
      readonly wanted: readonly string[]
    }
/** What the machine is set up for. */
export type SetupPurpose = 'run' | 'test'
export const planSetup: (facts: SetupFacts, purpose: SetupPurpose) => SetupPlan
export const gatherFacts: () => SetupFacts
export const packagesWithInstallScripts: readonly string[]
/** Debian package to the programs that the compatibility suite needs from it. */
export const foreignPackages: Readonly<Record<string, readonly string[]>>
export const hiddenPlaces: () => readonly string[]
export const root: string
/** Directory with the pinned runtime's headers. */
export const nodeHeaders: () => string | undefined
