// A backend's identity for tests without a CA's processes: a certificate of the test authority, calls to the real front over mTLS, and a
// feed whose bytes can be cut off on their way.
import { createPrivateKey } from 'node:crypto'
import { Agent, Response, fetch as undiciFetch } from 'undici'
import type { AgentIdentity, Credential } from '../../src/agent/index.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { parseSpiffeId } from '../../src/pki/spiffe.ts'
import { issueForService } from '../agent/ca-server.ts'
import { madeCredential } from '../agent/made-credential.ts'
import { trustDomain } from '../ca/authority.ts'
import type { Holder, World } from '../feed/world.ts'

export interface TestIdentity {
  readonly identity: AgentIdentity
  /** Where the CA is from now on. */
  moveTo(port: number): void
  /** What becomes of the bytes of the next streams; null: they come as they are. */
  disturb(pass: ((bytes: Uint8Array) => Uint8Array | 'cut') | null): void
  /** A next generation. */
  renew(): void
  /** Streams that were opened, each by the position it began from. */
  readonly streams: (string | null)[]
}

const passing = (body: AsyncIterable<Uint8Array>, pass: (bytes: Uint8Array) => Uint8Array | 'cut') =>
  async function* () {
    for await (const bytes of body) {
      const passed = pass(bytes)
      if (passed === 'cut') throw new Error('the connection was cut')
      yield passed
    }
  }

/** @param holder of the service, as the CA knows it; its server certificate is one of its own */
export const createTestIdentity = async (world: World, holder: Holder): Promise<TestIdentity> => {
  const { ca } = world.front
  const server = await issueForService(ca, holder.name, ['localhost'])
  const [leaf, ...rest] = parsePem(server.chain, 'CERTIFICATE')
  let url = ''
  let disturbance: Parameters<TestIdentity['disturb']>[0] = null
  const streams: (string | null)[] = []
  const listeners = new Set<(credential: Credential) => void>()
  const dispatcher = new Agent({
    bodyTimeout: 0,
    connect: { cert: holder.cert, key: holder.key, rejectUnauthorized: false },
  })
  const current = (): Credential => {
    const made = madeCredential(1)
    return {
      ...made,
      spiffeId: parseSpiffeId(`spiffe://${trustDomain}/service/${holder.name}`),
      trustDomain,
      facts: { ...made.facts, instance: holder.instance },
      privateKey: createPrivateKey(server.key),
      certificatePem: encodePem('CERTIFICATE', leaf!),
      chainPem: rest.map(der => encodePem('CERTIFICATE', der)).join(''),
      bundlePem: encodePem('CERTIFICATE', ca.root.der),
      url,
    }
  }
  const credential = current()
  // Of an identity a verifier uses no more than this.
  const identity = {
    current: () => ({ ...credential, url }),
    status: () => {
      throw new Error('not asked for')
    },
    onChange: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    fetch: async (to, { peer: _, ...init }) => {
      const answer = await undiciFetch(to, { ...init, dispatcher })
      if (!String(to).includes('/v1/feed?') || answer.body === null) return answer
      streams.push(new Headers(init.headers as Record<string, string>).get('last-event-id'))
      if (disturbance === null) return answer
      const body = ReadableStream.from(passing(answer.body as AsyncIterable<Uint8Array>, disturbance)())
      return new Response(body as never, { status: answer.status })
    },
    [Symbol.asyncDispose]: () => dispatcher.destroy(),
  } satisfies Partial<AgentIdentity> as Partial<AgentIdentity> as AgentIdentity
  return {
    identity,
    moveTo: port => {
      url = `https://127.0.0.1:${port}`
    },
    disturb: pass => {
      disturbance = pass
    },
    renew: () => {
      for (const listener of listeners) listener(identity.current())
    },
    streams,
  }
}

/** The same numbers each time (the generator of Numerical Recipes): a failure can be seen again. @returns 0 to below the bound */
export const createDice = (seed: number): ((bound: number) => number) => {
  let state = seed >>> 0
  return bound => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
}
