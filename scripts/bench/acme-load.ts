// ACME clients (RFC 8555) in a process of their own: each has an account, and orders, finalizes and fetches one certificate after the other.
// Accounts, keys and certification requests are made before the time begins; signing the requests is part of it, and the client's.
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { Agent, request } from 'node:https'
import { createCsr } from '../../src/pki/csr.ts'
import { dnsName } from '../../src/pki/general-names.ts'
import type { Target } from './exchange.ts'
import { answerJobs, processCpu } from './programs.ts'

export interface AcmeBinding {
  readonly kid: string
  readonly hmacKey: string
  /** What its account orders. */
  readonly name: string
}

export interface AcmeJob {
  readonly target: Target
  /** One for each client. */
  readonly bindings: readonly AcmeBinding[]
  readonly orders: number
  readonly pids: readonly number[]
}

export interface AcmeResult {
  readonly seconds: number
  /** Of each process that was named: microseconds an order. */
  readonly cpu: readonly number[]
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

const createClient = (target: Target) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: target.ca ?? undefined })
  const base = `https://${target.host}:${target.port}/acme`
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = publicKey.export({ format: 'jwk' })
  let nonce: string | undefined
  let account: string | undefined

  const exchange = (method: string, url: string, body?: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { 'Content-Type': 'application/jose+json' }
      const sent = request(url, { method, agent, headers }, response => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          nonce = (response.headers['replay-nonce'] as string | undefined) ?? nonce
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          })
        })
      })
      sent.on('error', reject)
      sent.end(body)
    })

  /** @param payload undefined: POST-as-GET */
  const post = async (url: string, payload: unknown, status: number): Promise<Answer> => {
    if (nonce === undefined) await exchange('HEAD', `${base}/new-nonce`)
    const who = account === undefined ? { jwk } : { kid: account }
    const head = encode({ alg: 'ES256', nonce, url, ...who })
    nonce = undefined
    const body = payload === undefined ? '' : encode(payload)
    const signature = sign('sha256', Buffer.from(`${head}.${body}`), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    const jws = { protected: head, payload: body, signature: signature.toString('base64url') }
    const answer = await exchange('POST', url, JSON.stringify(jws))
    if (answer.status !== status) throw new Error(`${url}: expected ${status}, got ${answer.status} ${answer.body}`)
    return answer
  }

  return {
    open: async ({ kid, hmacKey }: AcmeBinding): Promise<void> => {
      const url = `${base}/new-account`
      const head = encode({ alg: 'HS256', kid, url })
      const payload = encode(jwk)
      const mac = createHmac('sha256', Buffer.from(hmacKey, 'base64url')).update(`${head}.${payload}`)
      const externalAccountBinding = { protected: head, payload, signature: mac.digest('base64url') }
      account = String((await post(url, { externalAccountBinding }, 201)).headers.location)
    },
    order: async (name: string, csr: string): Promise<void> => {
      const order = await post(`${base}/new-order`, { identifiers: [{ type: 'dns', value: name }] }, 201)
      const { finalize } = JSON.parse(order.body) as { finalize: string }
      let done = JSON.parse((await post(finalize, { csr }, 200)).body) as { status: string; certificate?: string }
      while (done.status === 'processing') {
        await new Promise(resolve => setTimeout(resolve, 20))
        done = JSON.parse((await post(String(order.headers.location), undefined, 200)).body)
      }
      if (done.certificate === undefined) throw new Error(`an order that is ${done.status}`)
      await post(done.certificate, undefined, 200)
    },
    close: () => agent.destroy(),
  }
}

const requestFor = async (name: string): Promise<string> => {
  const { privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
  })
  const spkiDer = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  const csr = await createCsr({
    spkiDer,
    subjectAltNames: [dnsName(name)],
    sign: info => new Uint8Array(sign('sha256', info, privateKey)),
  })
  return Buffer.from(csr).toString('base64url')
}

const run = async ({ target, bindings, orders, pids }: AcmeJob): Promise<AcmeResult> => {
  const clients = bindings.map(() => createClient(target))
  await Promise.all(clients.map((client, i) => client.open(bindings[i] as AcmeBinding)))
  const work: (readonly string[])[] = []
  for (const [i, { name }] of bindings.entries()) {
    const share = Math.floor(orders / bindings.length) + (i < orders % bindings.length ? 1 : 0)
    work.push(await Promise.all(Array.from({ length: share }, () => requestFor(name))))
  }
  const before = pids.map(processCpu)
  const begun = performance.now()
  await Promise.all(
    clients.map(async (client, i) => {
      for (const csr of work[i] as readonly string[]) await client.order((bindings[i] as AcmeBinding).name, csr)
    }),
  )
  const seconds = (performance.now() - begun) / 1000
  const cpu = pids.map((pid, i) => (processCpu(pid) - (before[i] as number)) / orders)
  for (const client of clients) client.close()
  return { seconds, cpu }
}

answerJobs<AcmeJob, AcmeResult>(run)
