// The CA certificates of this CA as one view in memory: parsed once, asked on every request. Follows the ledger, which is the truth;
// `reload` after a change there.

import { signatureAlgorithmFor } from '../pki/algorithms.ts'
import type { Certificate } from '../pki/certificate.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { type Shard, shardName } from '../pki/crl-shards.ts'
import { encodePem } from '../pki/pem.ts'
import { keyIdentifier } from '../pki/spki.ts'
import type { IssuersPort } from '../store/ports.ts'
import type { Issuer } from '../store/records.ts'
import type { CrlIssuer } from './crl.ts'
import type { ActiveIssuer } from './draft.ts'
import { CaError } from './errors.ts'

/** An issuing CA with its key in the online token. */
export type OnlineIssuer = ActiveIssuer & CrlIssuer

export interface IssuerView {
  readonly record: Issuer
  readonly certificate: Certificate
  /** null for a root: its key is never online. */
  readonly online: OnlineIssuer | null
}

/** Where leaves say that status is found; null: nowhere. From `publicUrl.status`, fixed at `init`. */
export interface StatusUrls {
  readonly crl: (issuer: string) => string
  readonly crlShard: (issuer: string, shard: Shard) => string
  readonly ocsp: string
  readonly aia: (issuer: string) => string
}

export const statusUrls = (base: string): StatusUrls => ({
  crl: issuer => `${base}/crl/${issuer}.crl`,
  crlShard: (issuer, shard) => `${base}/crl/${issuer}/${shardName(shard)}.crl`,
  ocsp: `${base}/ocsp`,
  aia: issuer => `${base}/aia/${issuer}.cer`,
})

export interface Issuers {
  all(): readonly IssuerView[]
  /** @throws CaError `no_active_issuer` */
  active(): OnlineIssuer
  /** @throws CaError `not_found` */
  byId(id: number): IssuerView
  byName(name: string): IssuerView | null
  /** Every issuing CA that has a key here, retired ones included: they still sign CRLs and have their answers. */
  online(): readonly OnlineIssuer[]
  /** PEM of the roots: the trust bundle. */
  bundlePem(): string
  /** PEM of the intermediates between a leaf of this issuer and the root, without both. */
  chainPem(issuerId: number): string
  reload(): void
}

const viewOf = (record: Issuer, urls: StatusUrls | null, shards: number): IssuerView => {
  const certificate = parseCertificate(record.certificate)
  if (record.keyLabel === null) return { record, certificate, online: null }
  const { spki } = certificate
  const online: OnlineIssuer = {
    id: record.id,
    name: record.name,
    keyLabel: record.keyLabel,
    spki,
    signatureAlgorithm: signatureAlgorithmFor(spki.algorithm),
    certificate,
    subjectDer: certificate.subjectDer,
    keyIdentifier: certificate.subjectKeyIdentifier ?? keyIdentifier(spki),
    crlDistributionPoint: urls?.crl(record.name) ?? null,
    crlShards: urls === null ? null : { of: shards, url: shard => urls.crlShard(record.name, shard) },
    authorityInfoAccess: urls === null ? null : { ocsp: [urls.ocsp], caIssuers: [urls.aia(record.name)] },
  }
  return { record, certificate, online }
}

/** @param shards among how many lists each issuer's leaves of today are divided */
export const createIssuers = (ledger: Pick<IssuersPort, 'list'>, urls: StatusUrls | null, shards = 1): Issuers => {
  // Owned by this closure, replaced whole by `reload`.
  let views: readonly IssuerView[] = []
  let bundle = ''
  const chains = new Map<number, string>()

  const reload = (): void => {
    views = ledger.list().map(record => viewOf(record, urls, shards))
    const pem = ({ certificate }: IssuerView) => encodePem('CERTIFICATE', certificate.der)
    const roots = views.filter(view => view.record.kind === 'root' && view.record.state !== 'retired')
    bundle = roots.map(pem).join('')
    chains.clear()
    for (const view of views) {
      const chain: string[] = []
      let at: IssuerView | undefined = view
      while (at !== undefined && at.record.kind !== 'root') {
        chain.push(pem(at))
        const parent: number | null = at.record.parentId
        at = views.find(each => each.record.id === parent)
      }
      chains.set(view.record.id, chain.join(''))
    }
  }
  reload()

  const byId = (id: number): IssuerView => {
    const view = views.find(each => each.record.id === id)
    if (view === undefined) throw new CaError('not_found', `no CA has id ${id}`)
    return view
  }
  return {
    all: () => views,
    active: () => {
      const view = views.find(each => each.record.state === 'active' && each.online !== null)
      if (view?.online == null)
        throw new CaError('no_active_issuer', 'no issuing CA is active', { hint: 'agentca ca activate NAME' })
      return view.online
    },
    byId,
    byName: name => views.find(each => each.record.name === name) ?? null,
    online: () => views.flatMap(view => (view.online === null ? [] : [view.online])),
    bundlePem: () => bundle,
    chainPem: issuerId => chains.get(byId(issuerId).record.id) ?? '',
    reload,
  }
}
