// What `init` decides by itself: the public URLs that certificates name, and the inputs of its three ceremonies, which are the examples
// in ca-config/ceremonies with the home's own trust domain and URL.
import { createServer, isIPv6 } from 'node:net'
import type { CeremonyKind } from '../schema/ceremony.ts'
import { type Address, type Config, isLoopback } from '../schema/config.ts'
import { type Fault, SchemaError } from '../schema/errors.ts'
import type { CeremonyText } from './ceremony/transcript.ts'
import { issuingName, rootName } from './init-places.ts'
import { logKeyLabel, responderKeyLabel } from './signer-config.ts'

export interface PublicUrls {
  readonly api: string
  readonly status: string
}

/** A port that is free now, on an address of this machine. */
export const findFreePort = (host: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, host, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/**
 * The configured URLs, or the listeners' own where those are loopback. A listener that takes any free port gets one now, so that the
 * certificates name a port that the server can take again.
 * @throws SchemaError when a listener is reachable from elsewhere and its URL is not configured
 */
export const publicUrlsOf = async (
  config: Pick<Config, 'publicUrl' | 'listen'>,
  freePort: (host: string) => Promise<number>,
): Promise<PublicUrls> => {
  const faults: Fault[] = []
  for (const name of ['api', 'status'] as const)
    if (config.publicUrl[name] === undefined && !isLoopback(config.listen[name].host))
      faults.push({
        path: `publicUrl.${name}`,
        problem: `needed because listen.${name} is not loopback: it is written into certificates at init`,
      })
  if (faults.length > 0) throw new SchemaError('configuration', faults)
  const derived = async (scheme: string, { host, port }: Address): Promise<string> =>
    `${scheme}://${isIPv6(host) ? `[${host}]` : host}:${port === 0 ? await freePort(host) : port}`
  return {
    api: config.publicUrl.api ?? (await derived('https', config.listen.api)),
    status: config.publicUrl.status ?? (await derived('http', config.listen.status)),
  }
}

/** JSON is YAML, and quotes whatever a trust domain may contain. */
const asText = (kind: CeremonyKind, input: object): CeremonyText => ({
  source: `${kind} (made by init)`,
  text: `${JSON.stringify(input, null, 2)}\n`,
})

/** The upper bound of RFC 5280 appendix A.1 for an organization. */
const maxOrganization = 64

export const ownInputs = (facts: {
  readonly trustDomain: string
  readonly statusUrl: string
}): Readonly<Record<CeremonyKind, CeremonyText>> => {
  const { trustDomain, statusUrl } = facts
  const subject = (commonName: string) => ({
    ...(trustDomain.length <= maxOrganization ? { organization: trustDomain } : {}),
    commonName,
  })
  return {
    root: asText('root', {
      ceremony: 'root',
      name: rootName,
      subject: subject('agentca root 1'),
      key: { label: rootName, algorithm: 'P-384' },
      lifetime: '3650d',
      pathLength: 'none',
      trustDomain,
    }),
    issuing: asText('issuing', {
      ceremony: 'issuing',
      name: issuingName,
      issuer: { name: rootName },
      subject: subject('agentca issuing 1'),
      key: { label: issuingName, algorithm: 'P-256' },
      lifetime: '365d',
      pathLength: 0,
      trustDomain,
      statusUrl,
      alsoGenerate: [responderKeyLabel, logKeyLabel],
    }),
    crl: asText('crl', { ceremony: 'crl', issuer: { name: rootName }, lifetime: '400d', revoked: [] }),
  }
}
