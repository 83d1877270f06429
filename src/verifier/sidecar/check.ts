// `agentca-verify check`: judges one certificate from a file as a backend would, step by step, and says what would be refused and why. It
// asks nobody: what it judges by are the files that it is given.

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isAgentCaError } from '../../base/errors.ts'
import { printable } from '../../base/printable.ts'
import { type Certificate, parseCertificate } from '../../pki/certificate.ts'
import { type Crl, parseCrl } from '../../pki/crl.ts'
import { nameToString } from '../../pki/names.ts'
import { parsePem } from '../../pki/pem.ts'
import { type CheckStep, type CheckVerdict, judgeCertificate } from './check-steps.ts'
import { SidecarError, usage } from './errors.ts'
import type { CommandSpec, GivenOptions } from './options.ts'
import { readText } from './serve-options.ts'

export const checkSpec: CommandSpec = {
  usage: 'agentca-verify check FILE [--chain FILE] [--ca-file FILE] [--state DIR | --crl-file FILE] [options]',
  about: 'judges the certificate in FILE (PEM, its issuers may follow): exit code 0 accepted, 9 refused',
  positionals: 1,
  examples: [
    'agentca-verify check agent/tls.crt --dir orders',
    'agentca-verify check agent.pem --ca-file ca.pem --crl-file crls.pem -o json',
    'agentca-verify check agent.pem --ca-file ca.pem --state /var/lib/agentca-verify',
  ],
  options: {
    chain: { value: 'FILE', help: 'PEM of issuing CAs, beside those in FILE' },
    'ca-file': { value: 'FILE', help: "PEM of the CA's roots" },
    dir: {
      value: 'DIR',
      help: 'credential directory of a service: its ca.crt, chain and crl.pem, where nothing else is given',
    },
    state: { value: 'DIR', help: 'what agentca-verify serve --state keeps: revocations, and who is registered' },
    'crl-file': { value: 'FILE', help: 'PEM of revocation lists' },
    'max-staleness': { value: 'DURATION', help: 'as of serve; default 5m' },
    output: { value: 'FORMAT', short: 'o', choices: ['text', 'json'], help: 'form of the output; default text' },
    help: { value: null, short: 'h', help: 'show this help' },
  },
}

export interface CheckIo {
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly out: (text: string) => void
}

interface Sources {
  readonly leaf: Certificate
  readonly intermediates: readonly Certificate[]
  readonly roots: readonly Certificate[]
  readonly crls: readonly Crl[] | null
}

const parsed = <T>(path: string, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    if (!isAgentCaError(error) || error instanceof SidecarError) throw error
    throw new SidecarError('file_malformed', `${path}: ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    })
  }
}

const certificatesIn = (path: string): readonly Certificate[] =>
  parsed(path, () => parsePem(readText(path), 'CERTIFICATE').map(der => parseCertificate(der)))

const maxCrlText = 64 * 1024 * 1024
const crlsIn = (path: string): readonly Crl[] =>
  parsed(path, () => parsePem(readText(path), 'X509 CRL', maxCrlText).map(der => parseCrl(der)))

/** A service's directory has an empty crl.pem until lists were fetched. */
const hasText = (path: string): boolean => {
  try {
    return readFileSync(path, 'utf8').trim() !== ''
  } catch {
    return false
  }
}

const sourcesOf = (given: GivenOptions, { cwd, env }: CheckIo): Sources => {
  const at = (path: string): string => resolve(cwd, path)
  const [file] = given.positionals
  if (file === undefined) throw usage('expected the file of a certificate', 'agentca-verify check --help')
  const dir = given.one('dir') ?? env.AGENTCA_DIR ?? null
  const beside = (name: string): string | null => (dir === null || dir === '' ? null : join(at(dir), name))
  const optional = (option: string): string | null => {
    const path = given.one(option)
    return path === null ? null : at(path)
  }
  const caFile = optional('ca-file') ?? beside('ca.crt')
  if (caFile === null)
    throw usage('whom to trust is missing: --ca-file FILE, or --dir DIR', 'agentca bundle show > ca.pem')
  const [leaf, ...rest] = certificatesIn(at(file))
  const chain = optional('chain')
  const own = beside('tls.crt')
  const lists = beside('crl.pem')
  const crlFile = optional('crl-file') ?? (given.has('state') || lists === null || !hasText(lists) ? null : lists)
  return {
    leaf: leaf as Certificate,
    intermediates: [
      ...rest,
      ...(chain === null ? [] : certificatesIn(chain)),
      ...(own === null ? [] : certificatesIn(own).slice(1)),
    ],
    roots: certificatesIn(caFile),
    crls: crlFile === null ? null : crlsIn(crlFile),
  }
}

const marks: Readonly<Record<CheckStep['outcome'], string>> = { ok: 'ok', refused: 'REFUSED', skipped: '-' }

const textOf = (leaf: Certificate, { accepted, rule, steps, hint }: CheckVerdict): string => {
  const lines = [
    `${nameToString(leaf.subject)}, serial ${leaf.serialHex}`,
    ...steps.map(({ step, outcome, detail }) => `  ${step.padEnd(12)}  ${marks[outcome].padEnd(7)}  ${detail}`),
    accepted ? 'accepted' : `refused: ${rule}`,
    ...(hint === null ? [] : [`  hint: ${hint}`]),
  ]
  return `${lines.map(printable).join('\n')}\n`
}

/** @returns the exit code */
export const check = (given: GivenOptions, io: CheckIo): number => {
  if (given.has('state') && given.has('crl-file')) throw usage('--state and --crl-file exclude each other')
  const sources = sourcesOf(given, io)
  const state = given.one('state')
  const verdict = judgeCertificate({
    ...sources,
    stateDirectory: state === null ? null : resolve(io.cwd, state),
    maxStaleness: given.one('max-staleness') ?? '5m',
    now: Date.now(),
  })
  if (given.one('output') === 'json') {
    const { leaf } = sources
    const { spiffeId, serialHex, notBefore, notAfter } = leaf
    const certificate = {
      serial: serialHex,
      spiffeId,
      subject: nameToString(leaf.subject),
      issuer: nameToString(leaf.issuer),
      notBefore: new Date(notBefore).toISOString(),
      notAfter: new Date(notAfter).toISOString(),
    }
    io.out(
      `${JSON.stringify({ verdict: verdict.accepted ? 'accepted' : 'refused', ...verdict, certificate }, null, 2)}\n`,
    )
  } else io.out(textOf(sources.leaf, verdict))
  return verdict.accepted ? 0 : 9
}
