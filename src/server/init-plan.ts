// What `init` would do, without doing it: the same checks and the same inputs, and for each part whether it is there already.
import { existsSync } from 'node:fs'
import { parseCeremony } from '../schema/ceremony.ts'
import { draftFacts, draftIssuing, draftRoot } from './ceremony/draft.ts'
import { isMissing, type TokenTarget, tokenFacts } from './ceremony/token-target.ts'
import type { Facts } from './ceremony/transcript.ts'
import { findInit, type InitOptions, prepareInit } from './init.ts'
import type { PublicUrls } from './init-inputs.ts'
import { caFile, issuingName, onlineTarget, rootCrlFile, rootName, rootTarget } from './init-places.ts'

export interface InitPlan {
  /** `already`: there is nothing to do. */
  readonly state: 'planned' | 'already'
  readonly home: string
  readonly trustDomain: string
  readonly urls: PublicUrls
  readonly parts: readonly PlannedPart[]
}

export interface PlannedPart {
  readonly part: string
  /** `keep`: it is there and is checked. */
  readonly action: 'make' | 'keep'
  readonly facts: Facts
}

const tokenPart = (part: string, target: TokenTarget): PlannedPart => ({
  part,
  action: isMissing(target) ? 'make' : 'keep',
  facts: { uri: tokenFacts(target).uri },
})

/** @throws as initHome, for what it would refuse before it makes anything */
export const planInit = async (options: InitOptions): Promise<InitPlan> => {
  const { paths, existing } = options
  const { trustDomain } = options.config
  const found = findInit(options)
  if (found?.state === 'done') return { state: 'already', home: paths.home, trustDomain, urls: found.urls, parts: [] }
  const { urls, inputs } = await prepareInit(options, found)
  const now = options.clock.now()
  const root = parseCeremony('root', inputs.root.text, inputs.root.source)
  const issuing = parseCeremony('issuing', inputs.issuing.text, inputs.issuing.source)
  const file = (path: string, isGiven: boolean, facts: Facts): Omit<PlannedPart, 'part'> =>
    isGiven || existsSync(path)
      ? { action: 'keep', facts: { file: path } }
      : { action: 'make', facts: { file: path, ...facts } }
  const labels = [issuing.key.label, ...issuing.alsoGenerate]
  return {
    state: 'planned',
    home: paths.home,
    trustDomain,
    urls,
    parts: [
      tokenPart('online token', onlineTarget(options)),
      { part: 'online keys', action: 'make', facts: { 'those that are missing of': labels } },
      ...(existing === undefined ? [tokenPart('root token', rootTarget(options))] : []),
      {
        part: 'root certificate',
        ...file(caFile(paths, rootName), existing !== undefined, draftFacts(draftRoot(root, now))),
      },
      {
        part: 'issuing certificate',
        ...file(caFile(paths, issuingName), existing !== undefined, draftFacts(draftIssuing(issuing, now))),
      },
      { part: 'root CRL', ...file(rootCrlFile(paths, rootName), existing !== undefined, {}) },
      {
        part: 'ledger',
        action: 'make',
        facts: { file: paths.database, registrations: ['service agentca', 'operator admin'] },
      },
    ],
  }
}
