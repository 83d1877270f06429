// The roots' CRLs: made by ceremonies where the key is, left in the directory or handed over, believed by their signature alone.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { PublishedFile } from '../base/published-file.ts'
import type { Issuer } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { Issuers } from './issuers.ts'
import { checkNumberGrows, readPublishedCrl, rootCrlOf } from './published-crl.ts'
import type { PublishedCrl } from './status-answers.ts'

export interface RootCrlsDeps {
  readonly log: Log
  readonly issuers: Pick<Issuers, 'all' | 'byName'>
  readonly fileOf: (root: Issuer) => PublishedFile
}

export interface RootCrls {
  get(name: string): PublishedCrl | null
  /** Takes what lies in the directory now; what is wrong there is logged, and the last list stays. */
  read(): Promise<void>
  /**
   * Resolves when the list is durable in the directory; the same bytes again are no error.
   * @throws CaError `not_found`; PkiError `crl_malformed`, `signature_invalid`; StoreError `crl_number_regressed`
   */
  set(name: string, der: Uint8Array): Promise<PublishedCrl>
}

export const createRootCrls = ({ log, issuers, fileOf }: RootCrlsDeps): RootCrls => {
  const lists = new Map<string, PublishedCrl>()
  const take = (list: PublishedCrl): void => {
    const published = lists.get(list.issuer) ?? null
    if (published?.sha256 === list.sha256) return
    checkNumberGrows(published, list)
    lists.set(list.issuer, list)
  }
  return {
    get: name => lists.get(name) ?? null,
    read: async () => {
      for (const { record, certificate } of issuers.all().filter(view => view.record.kind === 'root')) {
        try {
          const der = await fileOf(record).read()
          if (der !== null) take(readPublishedCrl(rootCrlOf(record.name, certificate), der))
        } catch (error) {
          log.error({ issuer: record.name, reason: messageOf(error) }, 'the CRL of a root cannot be used')
        }
        if (!lists.has(record.name))
          log.warn(
            { issuer: record.name, hint: 'agentca ceremony crl' },
            'a root has no CRL: OpenSSL refuses its chains',
          )
      }
    },
    set: async (name, der) => {
      const view = issuers.byName(name)
      if (view?.record.kind !== 'root') throw new CaError('not_found', `there is no root ${name}`)
      const list = readPublishedCrl(rootCrlOf(name, view.certificate), der)
      take(list)
      await fileOf(view.record).show(list.der)
      return list
    },
  }
}
