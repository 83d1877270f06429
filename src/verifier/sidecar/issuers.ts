// Issuing CAs that the sidecar meets while it runs. Most proxies hand on the leaf alone, so after a rotation an agent's issuer may be one
// that is in nobody's chain here: it is fetched from where the leaf says, if that is the place where this CA publishes. What is fetched is
// only a candidate: a path through it is validated like any other.
import { AgentCaError, messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { type Certificate, parseCertificate } from '../../pki/certificate.ts'

export interface Issuers {
  /** DER. */
  known(): readonly Uint8Array[]
  /** Looks for the issuer of a leaf. @returns whether there is one now that was not known; never throws */
  learn(leafDer: Uint8Array): Promise<boolean>
}

export interface IssuersDeps {
  /** The sidecar's own certificate: it names where this CA publishes. */
  readonly own: () => Certificate
  readonly monotonic: () => number
  readonly log: Log
}

const maxKnown = 16
const maxBytes = 16_384
const deadlineMs = 3000
/** A place that had nothing is not asked again for so long: callers decide how often this is wanted. */
const againMs = 10_000
const maxAsked = 64

const caIssuersOf = (certificate: Certificate): readonly string[] => certificate.authorityInfoAccess?.caIssuers ?? []

const originsOf = (certificate: Certificate): ReadonlySet<string> => {
  const lists = (certificate.crlDistributionPoints ?? [])
    .flatMap(point => point.fullName ?? [])
    .flatMap(name => (name.kind === 'uri' ? [name.value] : []))
  return new Set(
    [...caIssuersOf(certificate), ...lists].filter(url => URL.canParse(url)).map(url => new URL(url).origin),
  )
}

const fetchIssuer = async (url: string): Promise<Uint8Array> => {
  const answer = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(deadlineMs) })
  if (answer.status !== 200 || answer.body === null) {
    await answer.body?.cancel()
    throw new AgentCaError('issuer_unreachable', `${url} answered ${answer.status}`)
  }
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of answer.body as AsyncIterable<Uint8Array>) {
    size += part.length
    if (size > maxBytes) throw new AgentCaError('issuer_malformed', `${url} has more than ${maxBytes} bytes`)
    parts.push(part)
  }
  return new Uint8Array(Buffer.concat(parts))
}

export const createIssuers = ({ own, monotonic, log }: IssuersDeps): Issuers => {
  // Owned by this closure.
  let known: readonly { readonly der: Uint8Array; readonly subject: string }[] = []
  const asked = new Map<string, { readonly at: number; readonly found: Promise<boolean> }>()

  const ask = async (url: string, subject: string): Promise<boolean> => {
    try {
      const der = await fetchIssuer(url)
      const issuer = parseCertificate(der)
      if (issuer.comparableSubject !== subject || issuer.basicConstraints?.isCa !== true)
        throw new AgentCaError('issuer_malformed', `${url} is no certificate of the CA that is looked for`)
      known = [...known, { der, subject }].slice(-maxKnown)
      log.info({ url }, 'the certificate of another issuing CA was fetched')
      return true
    } catch (error) {
      log.warn({ url, reason: messageOf(error) }, 'the certificate of an issuing CA was not found')
      return false
    }
  }

  return {
    known: () => known.map(({ der }) => der),
    learn: async leafDer => {
      try {
        const leaf = parseCertificate(leafDer)
        const subject = leaf.comparableIssuer
        if (known.some(each => each.subject === subject)) return false
        const origins = originsOf(own())
        const url = caIssuersOf(leaf).find(each => URL.canParse(each) && origins.has(new URL(each).origin))
        if (url === undefined) return false
        const before = asked.get(url)
        if (before !== undefined && monotonic() - before.at < againMs) return await before.found
        asked.delete(url)
        if (asked.size >= maxAsked) asked.delete(asked.keys().next().value as string)
        const found = ask(url, subject)
        asked.set(url, { at: monotonic(), found })
        return await found
      } catch (error) {
        log.debug({ reason: messageOf(error) }, 'a certificate names no issuer that could be looked for')
        return false
      }
    },
  }
}
