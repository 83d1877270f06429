// Who signs for a core, and how the core learns the public halves of its keys: a signer process over the HSM that the configuration names.
// The core itself only knows the parts, so that composition can give it others; no configuration does.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import type { SubjectPublicKeyInfo } from '../pki/spki.ts'
import type { Config } from '../schema/config.ts'
import { attachSigner } from '../signer/attached.ts'
import { createSignerClient, type SignerClient } from '../signer/client.ts'
import { createSignerSupervisor, type SignerSupervisor } from '../signer/supervisor.ts'
import type { HomePaths } from './home.ts'
import { readOnlineKey } from './online-keys.ts'
import { signerConfigOf, writeSignerConfig } from './signer-config.ts'

export interface SigningFacts {
  readonly config: Config
  readonly paths: HomePaths
  readonly trustDomain: TrustDomain
  readonly issuers: Issuers
  readonly clock: Clock
  readonly log: Log
}

export interface Signing {
  readonly signer: SignerClient
  readonly supervisor: SignerSupervisor
  /** Of keys that no certificate carries. @throws ServerError `key_file_missing` */
  onlineKey(label: string): SubjectPublicKeyInfo
  /** Issuing CAs changed. @returns whether a signer that runs has to start again to know */
  follow(): boolean
}

const labels = (keys: readonly { readonly label: string }[]): readonly string[] => keys.map(({ label }) => label)

/** A signer that runs as another user, with a configuration that nobody here can write: what it may sign is not for the core to say. */
const attachedSigning = (facts: SigningFacts, socket: string): Signing => {
  const { config, paths, trustDomain, issuers, clock, log } = facts
  const signer = createSignerClient({ socket, clock, log })
  return {
    signer,
    supervisor: attachSigner({ socket, client: signer, clock }),
    onlineKey: label => readOnlineKey(paths, label),
    follow: () => {
      void signer.health().then(({ keys }) => {
        const known = labels(keys)
        const missing = labels(signerConfigOf(config, { paths, trustDomain, issuers }).keys).filter(
          label => !known.includes(label),
        )
        if (missing.length > 0)
          log.error({ missing, hint: 'agentca signer add-key' }, 'the signer does not have every key of the ledger')
      })
      return false
    },
  }
}

/** A process over the configured HSM, or the one that is there already. */
export const openHsmSigning = (facts: SigningFacts): Signing => {
  const { socket } = facts.config.signer
  return socket === undefined ? ownSigning(facts) : attachedSigning(facts, socket)
}

const ownSigning = ({ config, paths, trustDomain, issuers, clock, log }: SigningFacts): Signing => {
  const writeConfig = () => writeSignerConfig(paths, signerConfigOf(config, { paths, trustDomain, issuers }))
  const signer = createSignerClient({ socket: paths.signerSocket, clock, log })
  const supervisor = createSignerSupervisor({
    configFile: writeConfig().file,
    sessions: config.hsm.sessions,
    client: signer,
    clock,
    log: log.child({ part: 'signer' }),
  })
  return {
    signer,
    supervisor,
    onlineKey: label => readOnlineKey(paths, label),
    follow: () => writeConfig().changed,
  }
}
