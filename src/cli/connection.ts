// How a request reaches the server: over the admin socket in AGENTCA_HOME, or over HTTPS with an operator's credential directory,
// trusting only the CA that the credential names. One request, one connection: commands are short.
import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { resolve } from 'node:path'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { principalOf, trustDomainOf } from '../pki/spiffe.ts'
import { CliError } from './errors.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { freshOperatorCredential, type OperatorCredential, readOperatorCredential } from './operator-credential.ts'

export interface ConnectionOptions {
  readonly home?: string
  readonly url?: string
  readonly credential?: string
}

export interface Reply {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

export interface Connection {
  /** What it talks to, for messages. */
  readonly target: string
  /** @throws CliError server_not_running, server_unreachable, server_not_trusted, server_answer_malformed, credential_expired */
  send(method: 'GET' | 'POST', path: string, body: string | null): Promise<Reply>
}

/** No answer has a reason to be larger; pages hold at most 1,000 rows. */
const maxReplyBytes = 64 * 1024 * 1024
/** Silence after which the other side is given up: a revocation of many thousands is one transaction. */
const silenceMs = 60_000

const readReply = async (response: IncomingMessage): Promise<Reply> => {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxReplyBytes) throw new CliError('server_answer_malformed', 'the answer is too large')
    chunks.push(chunk)
  }
  return {
    status: response.statusCode ?? 0,
    contentType: response.headers['content-type'] ?? '',
    body: Buffer.concat(chunks).toString('utf8'),
  }
}

const exchange = (start: typeof requestHttp, options: RequestOptions, body: string | null): Promise<Reply> =>
  new Promise((fulfil, reject) => {
    const headers = {
      accept: 'application/json',
      ...(body === null
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
    }
    const sent = start({ ...options, agent: false, headers }, response => readReply(response).then(fulfil, reject))
    sent.setTimeout(silenceMs, () => sent.destroy(new Error(`no answer for ${silenceMs / 1000} seconds`)))
    sent.on('error', reject)
    sent.end(body ?? undefined)
  })

const startIt = 'start it with "agentca serve" (in a checkout: npm start)'

const socketFault = (socketPath: string, error: unknown): CliError => {
  const { code } = error as { code?: string }
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return new CliError('server_not_running', `no server is running here: nobody listens on ${socketPath}`, {
      hint: `${startIt}, or name another home with --home`,
    })
  if (code === 'EACCES' || code === 'EPERM')
    return new CliError('server_not_permitted', `not permitted to open ${socketPath}`, {
      hint: 'run the command as the user that runs the server, or use --url and --credential',
    })
  return new CliError('server_unreachable', `the server at ${socketPath} broke off: ${messageOf(error)}`)
}

const socketConnection = (socketPath: string): Connection => ({
  target: socketPath,
  send: (method, path, body) =>
    exchange(requestHttp, { socketPath, method, path }, body).catch((error: unknown) => {
      throw isAgentCaError(error) ? error : socketFault(socketPath, error)
    }),
})

/**
 * The server is `service/agentca` of the operator's own trust domain. A certificate without a SPIFFE ID (the API behind a proxy of
 * one's own, under the same root) must carry the host's name instead.
 * @returns what is wrong, or undefined
 */
export const identityFault = (host: string, peer: PeerCertificate, own: Certificate): Error | undefined => {
  try {
    const id = parseCertificate(new Uint8Array(peer.raw)).spiffeId
    if (id === null) return checkServerIdentity(host, peer)
    const principal = principalOf(id)
    if (
      principal?.kind === 'service' &&
      principal.name === 'agentca' &&
      own.spiffeId !== null &&
      trustDomainOf(id) === trustDomainOf(own.spiffeId)
    )
      return undefined
    return new Error(`expected service/agentca of this trust domain, got ${id}`)
  } catch (error) {
    return error as Error
  }
}

const tlsFault = (url: URL, error: unknown): CliError => {
  const { code = '' } = error as { code?: string }
  if (/^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ECONNRESET)$/.test(code))
    return new CliError('server_unreachable', `cannot reach ${url.origin}: ${messageOf(error)}`, { hint: startIt })
  return new CliError('server_not_trusted', `${url.origin} is not trusted: ${messageOf(error)}`, {
    hint: 'is ca.crt of the credential directory from this CA, and is the credential current?',
  })
}

/** @param credentialOf is asked once, when there is something to send */
const httpsConnection = (url: URL, credentialOf: () => Promise<OperatorCredential>): Connection => {
  let asked: Promise<OperatorCredential> | null = null
  return {
    target: url.origin,
    send: async (method, path, body) => {
      asked ??= credentialOf()
      const { bundle, roots, leaf } = await asked
      const options = {
        host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
        port: url.port === '' ? 443 : url.port,
        method,
        path,
        minVersion: 'TLSv1.3',
        key: bundle,
        cert: bundle,
        ca: roots,
        checkServerIdentity: (host: string, peer: PeerCertificate) => identityFault(host, peer, leaf),
      } as RequestOptions
      return exchange(requestHttps as typeof requestHttp, options, body).catch((error: unknown) => {
        throw isAgentCaError(error) ? error : tlsFault(url, error)
      })
    },
  }
}

const parseUrl = (text: string): URL => {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url?.protocol !== 'https:' || url.username !== '' || url.pathname !== '/')
    throw new CliError('usage', `expected --url https://HOST:PORT, got ${text}`)
  return url
}

/** @throws CliError usage, file_unreadable */
export const openConnection = (io: CommandIo, options: ConnectionOptions): Connection => {
  const url = options.url ?? io.env.AGENTCA_ADMIN_URL
  const directory = options.credential ?? io.env.AGENTCA_ADMIN_CREDENTIAL
  if (url === undefined) {
    if (options.credential !== undefined)
      throw new CliError('usage', '--credential needs --url: the local socket asks for no certificate')
    return socketConnection(homeOf(io, options.home).adminSocket)
  }
  if (directory === undefined)
    throw new CliError('usage', '--url needs --credential DIR, with credential-bundle.pem and ca.crt of an operator', {
      hint: 'agentca enroll --help: a token for an operator gives a credential directory',
    })
  const [target, path] = [parseUrl(url), resolve(io.cwd, directory)]
  const present = readOperatorCredential(path)
  return httpsConnection(target, () => freshOperatorCredential(io, target, path, present))
}
