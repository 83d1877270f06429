// The signer port over software keys: the same judgement of every request by its purpose as in front of an HSM, the same counts, no
// process, no token.

import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import { keyIdentifier, spkiHashHex } from '../pki/spki.ts'
import type { Signing } from '../server/core-signing.ts'
import type { KeyReport, SignerClient } from '../signer/client.ts'
import { defaultCeilings } from '../signer/config.ts'
import { SignerError } from '../signer/errors.ts'
import type { CheckpointMark, HighWater } from '../signer/high-water.ts'
import type { SignatureCount, SignerHealth, SignPurpose } from '../signer/port.ts'
import { checkPurpose } from '../signer/purpose-checks.ts'
import type { PurposeKey } from '../signer/refusal.ts'
import type { SignerSupervisor } from '../signer/supervisor.ts'
import { TestingError } from './guard.ts'
import type { SoftwareKey } from './software-keys.ts'

export interface HeldKey {
  readonly key: SoftwareKey
  readonly purposes: readonly SignPurpose[]
  /** Of the CA that it is the key of. */
  readonly certificate?: Certificate
}

export interface SoftwareSigningDeps {
  readonly clock: Clock
  readonly trustDomain: TrustDomain
  readonly keys: readonly HeldKey[]
}

const memoryHighWater = (): HighWater => {
  const numbers = new Map<string, bigint>()
  const marks = new Map<string, CheckpointMark>()
  const names = new Map<string, string>()
  return {
    crlNumber: scope => numbers.get(scope) ?? null,
    crlScopes: prefix => [...numbers.keys()].filter(scope => scope.startsWith(prefix)).length,
    setCrlNumber: (scope, number) => void numbers.set(scope, number),
    checkpoint: scope => marks.get(scope) ?? null,
    setCheckpoint: (scope, mark) => void marks.set(scope, mark),
    responderName: key => names.get(key) ?? null,
    setResponderName: (key, name) => void names.set(key, name),
  }
}

const purposeKey = ({ key, purposes, certificate }: HeldKey): PurposeKey => ({
  label: key.label,
  curve: 'P-256',
  spki: key.spki.der,
  spkiSha256Hex: spkiHashHex(key.spki.der),
  purposes,
  issuer:
    certificate === undefined
      ? undefined
      : {
          subjectDer: certificate.subjectDer,
          keyIdentifier: keyIdentifier(key.spki),
          notAfter: certificate.notAfter,
        },
  ceilings: defaultCeilings,
})

const createClient = ({ clock, trustDomain, keys }: SoftwareSigningDeps): SignerClient => {
  const since = clock.now()
  const held = new Map(keys.map(each => [each.key.label, { ...each, judged: purposeKey(each) }]))
  const counts = new Map<string, { readonly key: string; readonly purpose: SignPurpose; total: number }>()
  const deps = {
    trustDomain,
    highWater: memoryHighWater(),
    keys: () => [...held.values()].map(({ judged }) => judged),
    now: clock.now,
  }
  const count = (key: string, purpose: SignPurpose): void => {
    const counter = counts.get(`${key} ${purpose}`) ?? { key, purpose, total: 0 }
    counter.total++
    counts.set(`${key} ${purpose}`, counter)
  }
  const health = async (): Promise<SignerHealth> => ({
    state: 'ready',
    pinLatched: false,
    keys: [...held.values()].map(({ judged, purposes }) => ({
      label: judged.label,
      purposes,
      idHex: toHex(new TextEncoder().encode(judged.label)),
      spkiSha256Hex: judged.spkiSha256Hex,
      curve: 'P-256',
    })),
    counts: [...counts.values()].map(
      ({ key, purpose, total }): SignatureCount => ({
        key,
        purpose,
        total,
        uncertain: 0,
        reserved: total,
        sinceStart: total,
      }),
    ),
    sessions: { open: 1, busy: 0, queued: 0, stuck: 0 },
    sinceMs: since,
    detail: 'TEST ONLY: keys in software, no HSM',
  })
  return {
    isConnected: () => true,
    sign: async ({ purpose, key: label, tbs }) => {
      const found = held.get(label)
      if (found === undefined)
        throw new SignerError('signer_refused', `no key "${label}"`, { hsmCalled: 'no', rule: 'key_unknown' })
      checkPurpose(deps, found.judged, { purpose, tbs })()
      count(label, purpose)
      return found.key.sign(tbs)
    },
    health,
    // What an HSM would say of them is not true of them.
    keys: async () =>
      [...held.values()].map(
        ({ judged }): KeyReport => ({
          label: judged.label,
          idHex: toHex(new TextEncoder().encode(judged.label)),
          curve: 'P-256',
          sign: true,
          sensitive: false,
          extractable: true,
          alwaysSensitive: false,
          neverExtractable: false,
          local: false,
          spkiSha256Hex: judged.spkiSha256Hex,
        }),
      ),
    unlock: health,
    pause: async () => {},
    resume: () => {},
    close: async () => {},
  }
}

const createSupervisor = (clock: Clock): SignerSupervisor => {
  const sinceMs = clock.now()
  return {
    state: () => ({ state: 'ready', pid: null, starts: 1, kills: 0, sinceMs, detail: 'TEST ONLY: no signer process' }),
    ready: async () => {},
    restart: async () => {},
    close: async () => {},
  }
}

export const createSoftwareSigning = (deps: SoftwareSigningDeps): Signing => ({
  signer: createClient(deps),
  supervisor: createSupervisor(deps.clock),
  onlineKey: label => {
    const found = deps.keys.find(({ key }) => key.label === label)
    if (found === undefined) throw new TestingError('testing_name_unknown', `no key is called ${label}`)
    return found.key.spki
  },
  // Its CAs are made with it.
  follow: () => false,
})
