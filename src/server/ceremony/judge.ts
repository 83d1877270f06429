// OpenSSL as the outside judge of what a ceremony made: another implementation of the same standards, so that a fault of ours does not
// approve itself. Asked for before anything irreversible, because a ceremony without its judge has not been checked.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../../base/errors.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { encodePem } from '../../pki/pem.ts'
import { CeremonyError } from './errors.ts'

const run = promisify(execFile)

export interface Judgement {
  readonly command: string
  readonly answer: string
}

export interface Judge {
  /** `OpenSSL 3.0.19 …`, for the transcript. */
  readonly version: string
  /**
   * `openssl verify -x509_strict` at a time; with CRLs, the revocation of every certificate of the chain too.
   * @throws CeremonyError `self_check_failed`
   */
  verifyCertificate(question: {
    readonly root: Certificate
    readonly certificate: Certificate
    readonly at: number
    readonly crl?: Uint8Array
  }): Promise<Judgement>
  /** `openssl crl`: the signature by its issuer. @throws CeremonyError `self_check_failed` */
  verifyCrl(question: { readonly issuer: Certificate; readonly crl: Uint8Array }): Promise<Judgement>
  /** `openssl req -verify`: proof of possession. @throws CeremonyError `self_check_failed` */
  verifyRequest(csr: Uint8Array): Promise<Judgement>
}

type Files = Readonly<Record<string, string>>

/** Both streams: OpenSSL says its verdicts on either, and some with exit code 0. */
const ask = async (args: readonly string[], files: Files, verdict: RegExp): Promise<Judgement> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-judge-'))
  const command = `openssl ${args.join(' ')}`
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
    const { stdout, stderr } = await run('openssl', args, {
      cwd: directory,
      timeout: 60_000,
      env: { PATH: process.env.PATH },
    }).catch((error: { stdout?: string; stderr?: string }) => ({
      stdout: error.stdout ?? '',
      stderr: error.stderr ?? messageOf(error),
    }))
    const answer = `${stdout}${stderr}`.trim()
    if (!verdict.test(answer))
      throw new CeremonyError('self_check_failed', `${command}: ${answer.replaceAll('\n', '; ')}`)
    return { command, answer }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const pemOf = (certificate: Certificate): string => encodePem('CERTIFICATE', certificate.der)

/** @throws CeremonyError `openssl_missing` */
export const findJudge = async (): Promise<Judge> => {
  let version: string
  try {
    version = (await run('openssl', ['version'])).stdout.trim()
  } catch (cause) {
    throw new CeremonyError('openssl_missing', 'the openssl command, which judges the result, cannot be run', {
      hint: 'apt-get install openssl',
      cause,
    })
  }
  return {
    version,
    verifyCertificate: ({ root, certificate, at, crl }) =>
      ask(
        [
          ...['verify', '-x509_strict', '-no-CApath', '-no-CAstore', '-CAfile', 'root.pem'],
          ...(crl === undefined ? [] : ['-crl_check_all', '-CRLfile', 'crl.pem']),
          ...['-attime', String(Math.floor(at / 1000)), 'certificate.pem'],
        ],
        {
          'root.pem': pemOf(root),
          'certificate.pem': pemOf(certificate),
          ...(crl === undefined ? {} : { 'crl.pem': encodePem('X509 CRL', crl) }),
        },
        /^certificate\.pem: OK$/m,
      ),
    verifyCrl: ({ issuer, crl }) =>
      ask(
        ['crl', '-in', 'crl.pem', '-noout', '-CAfile', 'issuer.pem', '-crlnumber', '-lastupdate', '-nextupdate'],
        { 'issuer.pem': pemOf(issuer), 'crl.pem': encodePem('X509 CRL', crl) },
        /^verify OK$/m,
      ),
    verifyRequest: csr =>
      ask(
        ['req', '-in', 'request.pem', '-noout', '-verify'],
        { 'request.pem': encodePem('CERTIFICATE REQUEST', csr) },
        /verify OK$/m,
      ),
  }
}
