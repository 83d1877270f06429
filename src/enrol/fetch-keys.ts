// One attempt to learn an identity provider's keys: by OpenID Connect Discovery 1.0, from a URL, or from a file. Over TLS that is verified
// against the given anchors, without redirects, bounded in time and size: the answer decides whom this CA believes.
import { readFile, stat } from 'node:fs/promises'
import { request } from 'node:https'
import { rootCertificates } from 'node:tls'
import { fromUtf8 } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { parseTokenKeys, type TokenKeys } from '../jws/verify-token.ts'
import type { JwtAttestorSettings } from '../schema/attestor.ts'

type KeySource = JwtAttestorSettings['keys']
type RemoteSource = Exclude<KeySource, { readonly from: 'file' }>

/** For each of the two answers of a discovery. */
const answerMs = 5_000
const maxAnswerBytes = 262_144

const failed = (url: string, problem: string, cause?: unknown): Error =>
  new Error(`${url}: ${problem}`, cause === undefined ? {} : { cause })

const anchorsOf = async ({ caFile }: RemoteSource): Promise<string | readonly string[]> =>
  caFile === undefined ? rootCertificates : readFile(caFile, 'utf8')

const headersOf = async ({ bearerFile }: RemoteSource): Promise<Record<string, string>> => {
  const accept = { accept: 'application/json, application/jwk-set+json' }
  if (bearerFile === undefined) return accept
  return { ...accept, authorization: `Bearer ${(await readFile(bearerFile, 'utf8')).trim()}` }
}

const getJson = async (url: string, source: RemoteSource): Promise<unknown> => {
  const ca = await anchorsOf(source)
  const headers = await headersOf(source)
  const text = await new Promise<string>((resolve, reject) => {
    const signal = AbortSignal.timeout(answerMs)
    const stop = (error: Error): void => {
      call.destroy()
      reject(failed(url, signal.aborted ? `no whole answer within ${answerMs / 1000} s` : messageOf(error), error))
    }
    const call = request(
      url,
      { ca: typeof ca === 'string' ? ca : [...ca], rejectUnauthorized: true, headers, signal, agent: false },
      response => {
        const { statusCode = 0 } = response
        if (statusCode !== 200) return stop(new Error(`expected status 200, got ${statusCode}`))
        const parts: Uint8Array[] = []
        let size = 0
        response.on('data', (part: Uint8Array) => {
          size += part.length
          if (size > maxAnswerBytes) stop(new Error(`expected at most ${maxAnswerBytes} bytes`))
          else parts.push(part)
        })
        response.on('error', stop)
        response.on('end', () => {
          try {
            resolve(fromUtf8(Buffer.concat(parts)))
          } catch (error) {
            stop(error as Error)
          }
        })
      },
    )
    call.on('error', stop)
    call.end()
  })
  return parseJson(text, url)
}

const parseJson = (text: string, source: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw failed(source, 'not JSON', cause)
  }
}

/** OpenID Connect Discovery 1.0 §4.3: the document names the very issuer, or it is another's. */
const discover = async (issuer: string, source: RemoteSource): Promise<string> => {
  const url = `${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`
  const found = (await getJson(url, source)) as Readonly<Record<string, unknown>> | null
  if (found?.issuer !== issuer) throw failed(url, `expected issuer ${issuer}, got ${JSON.stringify(found?.issuer)}`)
  const { jwks_uri: keys } = found
  if (typeof keys !== 'string' || !URL.canParse(keys)) throw failed(url, 'names no jwks_uri')
  if (new URL(keys).origin !== new URL(issuer).origin)
    throw failed(
      url,
      `jwks_uri is on another origin, ${new URL(keys).origin}: where that is right, set keys: {from: url}`,
    )
  return keys
}

const fromFile = async (file: string): Promise<TokenKeys> => {
  const { size } = await stat(file)
  if (size > maxAnswerBytes) throw failed(file, `expected at most ${maxAnswerBytes} bytes`)
  return parseTokenKeys(parseJson(await readFile(file, 'utf8'), file))
}

/** @throws Error saying what is wrong; TokenError `jwks_malformed` */
export const fetchKeys = async ({ issuer, keys }: Pick<JwtAttestorSettings, 'issuer' | 'keys'>): Promise<TokenKeys> => {
  if (keys.from === 'file') return fromFile(keys.file)
  const url = keys.from === 'url' ? keys.url : await discover(issuer, keys)
  return parseTokenKeys(await getJson(url, keys))
}
