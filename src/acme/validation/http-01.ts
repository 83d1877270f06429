// http-01 (RFC 8555 §8.3, RFC 8738 §4): the key authorization under a well-known path, over plain HTTP. One request, no redirect, a small
// answer.
import { get, type IncomingMessage } from 'node:http'
import type { Dns } from './dns-questions.ts'
import { type Challenge, type Identifier, ProbeFailure, type ValidationPolicy } from './policy.ts'
import { connectionFailure, tryTargets } from './targets.ts'

/** A key authorization has 87 characters or a few more; the rest is what servers put behind it. */
const maxBodyBytes = 1024
const maxHeaderBytes = 8192

export const probeHttp01 = (
  challenge: Challenge,
  policy: ValidationPolicy,
  { dns, signal }: { dns: () => Dns; signal: AbortSignal },
): Promise<void> =>
  tryTargets(challenge.identifier, policy, {
    dns,
    probe: async address => {
      const body = await fetchAnswer({ address, challenge, port: policy.httpPort, signal })
      // RFC 8555 §8.3: white space at its end is ignored; nothing else is.
      if (body.replace(/[\t\n\r ]+$/, '') !== challenge.keyAuthorization)
        throw new ProbeFailure(
          'incorrectResponse',
          `${challenge.identifier.value} answers something else than the key authorization`,
        )
    },
  })

const hostHeader = ({ type, value }: Identifier, port: number): string => {
  const host = type === 'ip' && value.includes(':') ? `[${value}]` : value
  return port === 80 ? host : `${host}:${port}`
}

const fetchAnswer = ({
  address,
  challenge,
  port,
  signal,
}: {
  address: string
  challenge: Challenge
  port: number
  signal: AbortSignal
}): Promise<string> =>
  new Promise((resolve, reject) => {
    const where = `${challenge.identifier.value} port ${port}`
    const request = get({
      // An address, so that nothing is looked up.
      host: address,
      port,
      path: `/.well-known/acme-challenge/${challenge.token}`,
      agent: false,
      maxHeaderSize: maxHeaderBytes,
      signal,
      headers: {
        Host: hostHeader(challenge.identifier, port),
        'User-Agent': 'agentca-acme',
        Accept: '*/*',
        Connection: 'close',
      },
    })
    const end = (error: unknown): void => {
      request.destroy()
      reject(error)
    }
    request.on('error', error => end(signal.aborted ? signal.reason : connectionFailure(error, where)))
    // 101 Switching Protocols is nothing that was asked for.
    request.on('upgrade', () => end(new ProbeFailure('incorrectResponse', `${where}: status 101`)))
    request.on('response', response => {
      if (response.statusCode !== 200) end(new ProbeFailure('incorrectResponse', statusFault(response, where)))
      else readBody(response, where).then(resolve, error => end(signal.aborted ? signal.reason : error))
    })
  })

const statusFault = ({ statusCode = 0 }: IncomingMessage, where: string): string =>
  statusCode >= 300 && statusCode < 400
    ? `${where}: status ${statusCode}, and redirects are not followed`
    : `${where}: expected status 200, got ${statusCode}`

const readBody = async (response: IncomingMessage, where: string): Promise<string> => {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > maxBodyBytes) break
      chunks.push(chunk)
    }
  } catch (error) {
    throw connectionFailure(error, where)
  }
  if (length > maxBodyBytes)
    throw new ProbeFailure('incorrectResponse', `${where}: more than ${maxBodyBytes} bytes of answer`)
  return Buffer.concat(chunks).toString('latin1')
}
