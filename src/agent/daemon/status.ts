// `agentca-agent status`: one screen about the identity in a directory: who, until when, who renews it, and what the CA says of it now.
import { resolve } from 'node:path'
import { callCa } from '../ca-call.ts'
import { type Credential, tlsMaterialOf } from '../credential.ts'
import { readCredentialDirectory } from '../credential-directory.ts'
import { renewerOf } from '../directory-lock.ts'
import { AgentError } from '../errors.ts'
import { factsOf, fieldsOf } from './facts.ts'
import { type DaemonIo, writeFields } from './io.ts'
import { helpOption, invalid, type OptionTable, oneOf, outputOption, textOf, type Values } from './options.ts'

export const statusOptions: OptionTable = {
  dir: { value: 'DIR', help: 'where the identity lies (AGENTCA_DIR)' },
  offline: { value: null, help: 'do not ask the CA' },
  ...outputOption,
  ...helpOption,
}

const askMs = 10_000

interface Opinion {
  /** `active`; the CA's own code for a refusal; `unknown` without an answer. */
  readonly state: string
  readonly message: string | null
  readonly hint: string | null
}

const opinionOf = async (credential: Credential): Promise<Opinion> => {
  const { key, cert, ca } = tlsMaterialOf(credential)
  const target = { url: credential.url, roots: ca, trustDomain: credential.trustDomain, client: { key, cert } }
  try {
    await callCa(target, { method: 'GET', path: '/v1/self', signal: AbortSignal.timeout(askMs) })
    return { state: 'active', message: null, hint: null }
  } catch (error) {
    const known = error instanceof AgentError ? error : AgentError.of('ca_unreachable', 'the CA gave no answer in time')
    const state = known.origin === 'ca' ? known.code : 'unknown'
    return { state, message: known.message, hint: known.hint ?? null }
  }
}

type State = 'ok' | 'renewal overdue' | 'nobody renews' | 'expired' | 'refused by the CA' | 'CA not reached'

/** 0 ok, 4 of no use, 10 worth a look. */
const exitCodes: Readonly<Record<State, number>> = {
  ok: 0,
  'renewal overdue': 10,
  'nobody renews': 10,
  'CA not reached': 10,
  expired: 4,
  'refused by the CA': 4,
}

const stateOf = (credential: Credential, renewer: number | null, opinion: Opinion | null, now: number): State => {
  if (now >= credential.notAfter) return 'expired'
  if (opinion !== null && opinion.state !== 'active' && opinion.state !== 'unknown') return 'refused by the CA'
  if (now >= Date.parse(credential.facts.renewBefore)) return 'renewal overdue'
  if (opinion?.state === 'unknown') return 'CA not reached'
  return renewer === null ? 'nobody renews' : 'ok'
}

const cureOf = (state: State, dir: string): string | null =>
  ({
    ok: null,
    'renewal overdue': `agentca-agent once --dir ${dir} --force, and see what it says`,
    'nobody renews': `agentca-agent run --dir ${dir}`,
    'CA not reached': 'the certificate serves on until it ends; is the CA running, and its URL right?',
    expired: `agentca-agent once --dir ${dir} recovers it where its profile allows, or enrols it with a fresh token`,
    'refused by the CA': null,
  })[state]

/** @returns the exit code */
export const status = async (io: DaemonIo, values: Values): Promise<number> => {
  const named = textOf(values, 'dir') ?? io.env.AGENTCA_DIR
  if (named === undefined || named === '')
    throw invalid('--dir is missing (or AGENTCA_DIR)', 'agentca-agent status --dir DIR')
  const dir = resolve(io.cwd, named)
  const output = oneOf(values, 'output', ['table', 'json'])
  const credential = await readCredentialDirectory(dir)
  if (credential === null)
    throw AgentError.of('option_missing', `${dir} holds no identity`, {
      hint: `agentca-agent once --dir ${dir} --url URL --ca-file FILE --token-file FILE`,
    })
  const opinion = values.offline === true ? null : await opinionOf(credential)
  const [renewer, now] = [await renewerOf(dir), Date.now()]
  const state = stateOf(credential, renewer, opinion, now)
  const hint = opinion?.hint ?? cureOf(state, dir)
  const facts = factsOf(credential, dir)
  if (output === 'json') io.out(`${JSON.stringify({ ...facts, state, renewer, ca: opinion, hint }, null, 2)}\n`)
  else
    writeFields(io, [
      ['state', state],
      ...fieldsOf(facts, now),
      ['renewed by', renewer === null ? 'nobody' : `process ${renewer}`],
      ...(opinion === null ? [] : [['the CA says', opinion.message ?? opinion.state] as const]),
      ...(hint === null ? [] : [['hint', hint] as const]),
    ])
  return exitCodes[state]
}
