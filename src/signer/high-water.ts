// What must never go back, whatever the core forgets in a restore: the last CRL number per key and scope, the last checkpoint per
// log. Durable before C_Sign, so that the same number is never signed twice with different content.
import { join } from 'node:path'
import { readIfPresent, writeDurably } from './durable-file.ts'
import { TokenError } from './errors.ts'

export interface CheckpointMark {
  readonly size: number
  readonly headBase64: string
}

export interface HighWater {
  crlNumber(scope: string): bigint | null
  /** How many scopes have a number that begin with this. */
  crlScopes(prefix: string): number
  setCrlNumber(scope: string, number: bigint): void
  checkpoint(scope: string): CheckpointMark | null
  setCheckpoint(scope: string, mark: CheckpointMark): void
  /** Subject (hex of its DER) of the last responder certificate that was signed for this key. */
  responderName(spkiSha256Hex: string): string | null
  setResponderName(spkiSha256Hex: string, nameHex: string): void
}

interface Stored {
  readonly crl: Readonly<Record<string, string>>
  readonly checkpoint: Readonly<Record<string, CheckpointMark>>
  readonly responder: Readonly<Record<string, string>>
}

export const createHighWater = (directory: string): HighWater => {
  const path = join(directory, 'high-water.json')
  const text = readIfPresent(path)
  let stored: Stored = { crl: {}, checkpoint: {}, responder: {} }
  if (text !== null) {
    try {
      stored = { ...stored, ...(JSON.parse(text) as Partial<Stored>) }
      for (const number of Object.values(stored.crl)) BigInt(number)
    } catch (error) {
      throw new TokenError('signer_config_invalid', `${path} is damaged`, {
        hint: 'restore the file from a backup',
        cause: error,
      })
    }
  }
  /** Memory follows the disk: a mark that could not be written does not count as one, or the same one again would not be written. */
  const store = (next: Stored): void => {
    writeDurably(path, `${JSON.stringify(next, null, 1)}\n`)
    stored = next
  }
  return {
    crlNumber: scope => (stored.crl[scope] === undefined ? null : BigInt(stored.crl[scope])),
    crlScopes: prefix => Object.keys(stored.crl).filter(scope => scope.startsWith(prefix)).length,
    setCrlNumber: (scope, number) => store({ ...stored, crl: { ...stored.crl, [scope]: String(number) } }),
    checkpoint: scope => stored.checkpoint[scope] ?? null,
    setCheckpoint: (scope, mark) => store({ ...stored, checkpoint: { ...stored.checkpoint, [scope]: mark } }),
    responderName: key => stored.responder[key] ?? null,
    setResponderName(key, nameHex) {
      if (stored.responder[key] === nameHex) return
      store({ ...stored, responder: { ...stored.responder, [key]: nameHex } })
    },
  }
}
