// Every JWS of Project Wycheproof against every place here that verifies one: requests of ACME clients, external account bindings, proofs of
// possession, tokens of identity providers. Where we diverge, test/vectors/wycheproof/exceptions.json says why; a divergence that is gone fails too.
import { createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isAgentCaError } from '../../src/base/errors.ts'
import { parseAcmeKey, readAcmeJws, verifyAcmeJws, verifyBindingJws } from '../../src/jws/acme-jws.ts'
import { algorithmOf, checkProof } from '../../src/jws/verify-proof.ts'
import { checkToken, parseTokenKeys } from '../../src/jws/verify-token.ts'

type Jwk = Readonly<Record<string, unknown>>

interface Vector {
  readonly tcId: number
  readonly comment: string
  /** Compact. */
  readonly jws: string
  readonly result: 'valid' | 'invalid'
}

interface VectorFile {
  readonly numberOfTests: number
  readonly testGroups: readonly {
    readonly comment: string
    readonly public?: Jwk
    readonly private?: Jwk
    readonly tests: readonly Vector[]
  }[]
}

const directory = join(import.meta.dirname, '../vectors/wycheproof')
const readJson = <T>(name: string): T => JSON.parse(readFileSync(join(directory, name), 'utf8')) as T
const file = readJson<VectorFile>('json_web_signature.json')
const exceptions = readJson<Record<string, Record<string, string>>>('exceptions.json')

const headerOf = (jws: string): Jwk => {
  try {
    return JSON.parse(Buffer.from(jws.split('.')[0] as string, 'base64url').toString()) as Jwk
  } catch {
    return {}
  }
}
const algOf = (jws: string): string => String(headerOf(jws).alg)

/** The code of the refusal, or null. What is not one of ours is a fault of its own. */
const refusalOf = async (act: () => Promise<unknown>): Promise<string | null> => {
  try {
    await act()
    return null
  } catch (error) {
    if (isAgentCaError(error)) return error.code
    throw error
  }
}

/**
 * As ACME's flattened form, which has no way to write another number of parts than three. The vectors' headers have no `url`, so that reading
 * ends there at the latest: a JWS that reading ended at earlier is refused, every other one goes on to the signature.
 */
const readFlattened = (jws: string) => {
  const [header, payload, signature, ...more] = jws.split('.')
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) return null
  const flattened = { protected: header, payload, signature }
  try {
    readAcmeJws(flattened)
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    if (error.message !== 'the protected header has no url') return null
  }
  return {
    header: { alg: algOf(jws), url: 'https://ca/acme', nonce: undefined, kid: 'k', jwk: undefined },
    jws: flattened,
  }
}

interface Place {
  readonly name: string
  readonly applies: (jwk: Jwk) => boolean
  readonly accepts: (jws: string, jwk: Jwk) => Promise<boolean>
}

const places: readonly Place[] = [
  {
    name: 'ACME request',
    applies: ({ kty }) => kty !== 'oct',
    accepts: async (jws, jwk) => {
      const read = readFlattened(jws)
      if (read === null) return false
      return (await refusalOf(async () => verifyAcmeJws(read, await parseAcmeKey(jwk)))) === null
    },
  },
  {
    name: 'external account binding',
    applies: ({ kty }) => kty === 'oct',
    accepts: async (jws, jwk) => {
      const read = readFlattened(jws)
      if (read === null) return false
      return (await refusalOf(() => verifyBindingJws(read, Buffer.from(String(jwk.k), 'base64url')))) === null
    },
  },
  {
    name: 'proof of possession',
    applies: ({ kty }) => kty !== 'oct',
    // What the payload says is looked at after the signature has held, and is no proof's.
    accepts: async (jws, jwk) => {
      const refusal = await refusalOf(async () => {
        const key = createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
        const unchecked = { keyHash: '', jws, key, algorithm: algorithmOf(key) }
        try {
          await checkProof(unchecked, { audience: '', csr: new Uint8Array(), now: 0 })
        } catch (error) {
          if (isAgentCaError(error) && error.code === 'jws_malformed') return
          throw error
        }
      })
      return refusal === null
    },
  },
  {
    name: 'token of an identity provider',
    applies: ({ kty }) => kty !== 'oct',
    accepts: async (jws, jwk) => {
      const algorithms = ['ES256', 'ES384', 'EdDSA', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
      const token = { jwt: jws, issuer: null, audiences: [], algorithm: algOf(jws), keyId: null, claims: {} }
      const rules = { issuer: 'i', audiences: ['a'], algorithms, clockSkewSeconds: 0, maxLifeSeconds: 1 }
      // The payloads are no claims: that is found out after the signature has held, and before where there are not three parts.
      const refusal = await refusalOf(async () => checkToken(token, parseTokenKeys({ keys: [jwk] }), rules, 0))
      return refusal === 'jwt_malformed' && jws.split('.').length === 3
    },
  },
]

describe('Wycheproof', () => {
  it('the file is whole', () => {
    expect(file.testGroups.flatMap(({ tests }) => tests)).toHaveLength(file.numberOfTests)
  })

  it.each(places)('json_web_signature.json gives its results as $name, except those with a reason', async place => {
    const divergences: string[] = []
    let count = 0
    for (const group of file.testGroups) {
      const jwk = (group.public ?? group.private) as Jwk
      if (!place.applies(jwk)) continue
      for (const { tcId, jws, result } of group.tests) {
        count++
        if ((await place.accepts(jws, jwk)) !== (result === 'valid')) divergences.push(String(tcId))
      }
    }
    expect(count).toBeGreaterThan(30)
    expect(divergences.sort()).toEqual(Object.keys(exceptions[`json_web_signature.json, ${place.name}`] ?? {}).sort())
  })
})
