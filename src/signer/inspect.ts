// What `agentca hsm status|keys|test-sign|unlock` asks of a running signer. Text and exit codes are the command line's.
import { randomBytes } from 'node:crypto'
import { concatBytes, toHex, utf8 } from '../base/bytes.ts'
import type { KeyReport, SignerClient } from './client.ts'
import { SignerError } from './errors.ts'
import type { SignerHealth } from './port.ts'

/** Equal to purpose-checks' prefix; repeated by test, so that this file stays free of the signer's inside. */
const testSignPrefix = 'agentca test-sign v1\n'

export interface TestSignature {
  readonly key: string
  readonly signedHex: string
  /** ECDSA-Sig-Value, verified by the signer before it was released. */
  readonly signatureHex: string
  readonly milliseconds: number
}

export const hsmStatus = (client: SignerClient): Promise<SignerHealth> => client.health()

export const hsmKeys = (client: SignerClient): Promise<readonly KeyReport[]> => client.keys()

/** What a signer that is ready signs with. @throws SignerError `signer_unavailable` */
export const hsmServedKeys = async (client: SignerClient): Promise<SignerHealth['keys']> => {
  const { state, detail, keys } = await client.health()
  if (state === 'ready') return keys
  throw new SignerError('signer_unavailable', detail, { hsmCalled: 'no', hint: 'agentca hsm status' })
}

/** One signature over random test data with each key, or with the one named. @throws SignerError */
export const hsmTestSign = async (
  client: SignerClient,
  options: { readonly key?: string; readonly monotonic: () => number },
): Promise<readonly TestSignature[]> => {
  const served = await hsmServedKeys(client)
  const labels =
    options.key === undefined
      ? served.filter(key => key.purposes.includes('test-sign')).map(key => key.label)
      : [options.key]
  const results: TestSignature[] = []
  for (const key of labels) {
    const tbs = concatBytes([utf8(testSignPrefix), randomBytes(32)])
    const startedAt = options.monotonic()
    const signature = await client.sign({ purpose: 'test-sign', key, tbs, priority: 'status', deadlineMs: 5000 })
    results.push({
      key,
      signedHex: toHex(tbs),
      signatureHex: toHex(signature),
      milliseconds: options.monotonic() - startedAt,
    })
  }
  return results
}

/** Clears the PIN latch and logs in once. Without a PIN the signer reads its pin-source again. @throws SignerError `pin_latched` */
export const hsmUnlock = (client: SignerClient, pin?: string): Promise<SignerHealth> => client.unlock(pin)
