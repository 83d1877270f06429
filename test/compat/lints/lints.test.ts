// Everything that this CA signs, judged by linters of others: what they find is repaired, or in findings.ts with the reason why not.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { root as checkout } from '../../../scripts/bootstrap.mjs'
import { parseOnePem, parsePem } from '../../../src/pki/pem.ts'
import { runCommand } from '../../cli/command.ts'
import { mustRun, type ServedCa, startServedCa } from '../../story/served-ca.ts'
import { compat } from '../compat.ts'
import { builtGo, compileMs, type GoProgram, goSubject } from '../go-program.ts'
import { type PythonPackage, pythonSubject, pythonWith } from '../python-venv.ts'
import type { FoundSubject, Subject } from '../subject.ts'
import { type Accepted, accepted, authorities, leaves } from './findings.ts'

const zlintProgram: GoProgram = { name: 'zlint', folder: import.meta.dirname, module: 'github.com/zmap/zlint/v3' }
const pkilintPackage: PythonPackage = { name: 'pkilint', folder: import.meta.dirname }
const zlint = goSubject(zlintProgram)
const pkilint = pythonSubject(pkilintPackage)

const lists = ['issuing-list', 'issuing-shard', 'root-list'] as const
const certificates = [...leaves, ...authorities, 'responder'] as const

const check = (subject: Subject, what: string, run: (found: FoundSubject) => Promise<void>): void =>
  compat(subject, what, run, compileMs)

let made: Promise<ServedCa> | null = null
afterAll(async () => {
  if (made !== null) await (await made)[Symbol.asyncDispose]()
})

/** In the CA's scratch directory NAME.der of everything it signs. */
const scene = (): Promise<ServedCa> => {
  made ??= makeAll()
  return made
}

const pemIn = (text: string): string =>
  /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\n/.exec(text)?.[0] ?? ''

const makeAll = async (): Promise<ServedCa> => {
  const ca = await startServedCa({ env: { ...process.env, AGENTCA_CRL_SHARDS: '2' } })
  const cwd = ca.directory
  const write = (name: string, der: Uint8Array): void => writeFileSync(join(cwd, `${name}.der`), der)
  const env = Object.fromEntries(
    Object.entries(ca.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
  // In this process: a command of its own takes a second to start where others are at work, and here are many.
  const agentca = async (...args: readonly string[]): Promise<void> => {
    const { code, err } = await runCommand(args, { cwd, env })
    if (code !== 0) throw new Error(`agentca ${args.join(' ')}: exit code ${code}\n${err}`)
  }
  const enrolled = async (name: string, token: string): Promise<void> => {
    const evidence = ['--ca-fingerprint', ca.rootFingerprint, '--token-file', token]
    await agentca('enroll', '--url', ca.urls.api, ...evidence, '--dir', name)
    write(name, parsePem(readFileSync(join(cwd, name, 'tls.crt'), 'utf8'), 'CERTIFICATE')[0]!)
  }
  const subject = async (name: string, kind: string, ...more: readonly string[]): Promise<void> => {
    await agentca(kind, 'create', name, ...more)
    await agentca('token', 'create', `--${kind}`, name, '--file', `${name}.token`)
    await enrolled(name, `${name}.token`)
  }
  await subject('agent', 'agent', '--owner', 'finance')
  await subject('agent-short', 'agent', '--owner', 'finance', '--profile', 'agent-short')
  await subject('acme', 'agent', '--owner', 'finance', '--profile', 'acme')
  await subject('acme-service', 'service', '--dns', 'web.internal', '--profile', 'acme-service')
  await subject('service', 'service', '--dns', 'orders.internal', '--dns', '127.0.0.1')
  await enrolled('operator', join(ca.home, 'first-operator.token'))

  const { host } = new URL(ca.urls.api)
  write(
    'api',
    parseOnePem(pemIn(await mustRun('openssl', ['s_client', '-connect', host], { cwd, says: 'Q' })), 'CERTIFICATE'),
  )
  const [, issuing] = parsePem(readFileSync(join(cwd, 'agent/tls.crt'), 'utf8'), 'CERTIFICATE')
  write('issuing', issuing!)
  write('root', parseOnePem(readFileSync(join(cwd, 'agent/ca.crt'), 'utf8'), 'CERTIFICATE'))
  const listAt: Readonly<Record<(typeof lists)[number], string>> = {
    'issuing-list': 'issuing-1',
    'issuing-shard': 'issuing-1/1-of-2',
    'root-list': 'root-1',
  }
  for (const name of lists) {
    const answer = await fetch(`${ca.urls.status}/crl/${listAt[name]}.crl`)
    write(name, new Uint8Array(await answer.arrayBuffer()))
  }
  const ask = ['-issuer', 'issuing.der', '-cert', 'agent.der', '-no_nonce', '-noverify', '-respout', 'response.der']
  await mustRun('openssl', ['ocsp', ...ask, '-url', `${ca.urls.status}/ocsp`], { cwd })
  const shown = await mustRun('openssl', ['ocsp', '-respin', 'response.der', '-resp_text', '-noverify'], { cwd })
  write('responder', parseOnePem(pemIn(shown), 'CERTIFICATE'))
  return ca
}

interface Finding {
  readonly file: string
  readonly lint: string
  readonly severity: string
  readonly details: string
}

const nameOf = (file: string): string => file.replace(/\.der$/, '')

/** Unlisted ones with all that is said about them; listed ones that are no more. */
const expectAccepted = (by: Accepted['by'], found: readonly Finding[], of: readonly string[]): void => {
  const rules = accepted.filter(rule => rule.by === by)
  const isListed = ({ file, lint }: Finding): boolean =>
    rules.some(rule => rule.lint === lint && rule.of.includes(nameOf(file)))
  expect(found.filter(finding => !isListed(finding))).toEqual([])
  const gone = rules.flatMap(({ lint, of: names }) =>
    names
      .filter(name => of.includes(name) && !found.some(each => each.lint === lint && nameOf(each.file) === name))
      .map(name => `${lint} of ${name}`),
  )
  expect(gone).toEqual([])
}

const filesOf = (kind: string, names: readonly string[]): readonly string[] => names.map(name => `${kind}=${name}.der`)

const byZlint = async (found: FoundSubject, kind: string, names: readonly string[]) => {
  const [program, { directory }] = [await builtGo(zlintProgram, found), await scene()]
  const said = await mustRun(program, filesOf(kind, names), { cwd: directory })
  expectAccepted('zlint', JSON.parse(said), names)
}

it('the linters see a leaf of every profile', () => {
  const profiles = readdirSync(join(checkout, 'ca-config/profiles')).map(name => name.replace(/\.yaml$/, ''))
  expect([...leaves]).toEqual(profiles.toSorted())
})

check(zlint, 'finds nothing unlisted in agents, services, operators, the CAs and the OCSP responder', found =>
  byZlint(found, 'certificate', certificates),
)
check(zlint, 'finds nothing in the lists of both CAs', found => byZlint(found, 'crl', lists))
check(zlint, 'finds nothing in an OCSP response', found => byZlint(found, 'ocsp', ['response']))

const byPkilint = async (found: FoundSubject, asked: readonly string[], names: readonly string[]): Promise<void> => {
  const [python, { directory }] = [await pythonWith(pkilintPackage, found), await scene()]
  const program = join(import.meta.dirname, 'pkilint_all.py')
  expectAccepted('pkilint', JSON.parse(await mustRun(python, [program, ...asked], { cwd: directory })), names)
}

check(pkilint, 'finds nothing unlisted in agents, services, operators, the CAs and the OCSP responder', found =>
  byPkilint(found, filesOf('certificate', certificates), certificates),
)
check(pkilint, 'finds nothing in the lists of both CAs and in an OCSP response', found =>
  byPkilint(found, [...filesOf('crl', lists), ...filesOf('ocsp', ['response'])], [...lists, 'response']),
)
check(pkilint, 'finds no certificate that does not go with its issuer', found =>
  byPkilint(
    found,
    ['chain=root.der,issuing.der', ...[...leaves, 'responder'].map(name => `chain=issuing.der,${name}.der`)],
    [],
  ),
)
