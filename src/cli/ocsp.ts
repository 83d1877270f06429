// `agentca ocsp check`: asks the responder that a certificate names, as a relying party would, and believes only what verifies.
import { randomBytes } from 'node:crypto'
import { Command } from 'commander'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { equalNames } from '../pki/names.ts'
import { checkSignature } from '../pki/signature.ts'
import { certificateBlocks, readCertificates } from './certificate-files.ts'
import { CliError } from './errors.ts'
import { fetchOk } from './fetch-url.ts'
import type { CommandIo } from './io.ts'
import { askOcsp } from './ocsp-question.ts'
import { members, type OutputOptions, type View, withOutput, writeOne } from './output.ts'

interface CheckOptions extends OutputOptions {
  readonly issuer?: string
  readonly url?: string
  readonly nonce?: true
}

interface Verdict {
  readonly serial: string
  readonly status: 'good' | 'revoked' | 'unknown'
  readonly revokedAt: string | null
  readonly reason: string | null
  readonly thisUpdate: string
  readonly nextUpdate: string | null
  readonly producedAt: string
  readonly responder: 'issuer' | 'delegate'
  readonly url: string
}

const verdictView: View<Verdict> = {
  columns: members<Verdict>(
    'serial',
    'status',
    'revokedAt',
    'reason',
    'thisUpdate',
    'nextUpdate',
    'producedAt',
    'responder',
    'url',
  ),
  name: row => row.status,
}

const isIssuerOf = (issuer: Certificate, certificate: Certificate): boolean => {
  if (!equalNames(issuer.subjectDer, certificate.issuerDer)) return false
  try {
    checkSignature(issuer.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)
    return true
  } catch {
    return false
  }
}

/** A CA certificate behind an AIA URL: DER, or PEM from those who do not read RFC 5280. */
const parseFetched = (bytes: Uint8Array): Certificate => {
  const [block] = certificateBlocks(Buffer.from(bytes).toString('latin1'))
  if (block === undefined) return parseCertificate(bytes)
  return parseCertificate(new Uint8Array(Buffer.from(block.replace(/-----[^-]+-----/g, ''), 'base64')))
}

/** From the file itself, --issuer, or the certificate's own AIA URL; it has to have signed the certificate in each case. */
const findIssuer = async (
  io: CommandIo,
  [certificate, ...chain]: readonly [Certificate, ...Certificate[]],
  option: string | undefined,
): Promise<Certificate> => {
  const candidates = option === undefined ? [...chain] : [...readCertificates(io, option)]
  const aia = certificate.authorityInfoAccess?.caIssuers[0]
  if (option === undefined && chain.length === 0 && aia !== undefined) {
    io.err(`issuer taken from ${aia}; give --issuer FILE to choose whom you trust\n`)
    candidates.push(parseFetched(await fetchOk(aia)))
  }
  const issuer = candidates.find(each => isIssuerOf(each, certificate))
  if (issuer !== undefined) return issuer
  throw new CliError(
    candidates.length === 0 ? 'usage' : 'verification_failed',
    candidates.length === 0 ? 'the issuer’s certificate is not known' : 'the certificate is not signed by this issuer',
    { hint: 'give its issuer with --issuer FILE' },
  )
}

const askResponder = async (
  certificate: Certificate,
  issuer: Certificate,
  url: string,
  nonce: Uint8Array | null,
): Promise<Verdict> => {
  const { answer, producedAt, responder } = await askOcsp({ url, certificate, issuer, nonce, now: Date.now() })
  const time = (at: number): string => new Date(at).toISOString()
  const { status } = answer
  return {
    serial: certificate.serialHex,
    status: typeof status === 'object' ? 'revoked' : status,
    revokedAt: typeof status === 'object' ? time(status.revokedAt) : null,
    reason: typeof status === 'object' ? status.reason : null,
    thisUpdate: time(answer.thisUpdate),
    nextUpdate: answer.nextUpdate === null ? null : time(answer.nextUpdate),
    producedAt: time(producedAt),
    responder: responder.kind,
    url,
  }
}

const checkCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('check'), ['table', 'json', 'name'])
    .description('ask whether a certificate is good; exit code 9 where it is not')
    .argument('<file>', 'the certificate, PEM or DER; its issuer may follow in the same file')
    .option('--issuer <file>', 'certificate of its issuer')
    .option('--url <url>', 'ask there instead of where the certificate says')
    .option('--nonce', 'demand a fresh answer (RFC 9654); the responder may have this switched off')
  return command.action(async (file: string) => {
    const options = command.opts<CheckOptions>()
    const certificates = readCertificates(io, file)
    const url = options.url ?? certificates[0].authorityInfoAccess?.ocsp[0]
    if (url === undefined)
      throw new CliError('usage', 'the certificate names no OCSP responder', { hint: 'give one with --url' })
    const issuer = await findIssuer(io, certificates, options.issuer)
    const nonce = options.nonce === true ? new Uint8Array(randomBytes(32)) : null
    const verdict = await askResponder(certificates[0], issuer, url, nonce).catch((error: unknown) => {
      if (error instanceof CliError || !isAgentCaError(error)) throw error
      // tryLater is no verdict: asking again may bring one.
      const code = error.facts.status === 'tryLater' ? 'server_unreachable' : 'verification_failed'
      throw new CliError(code, `${url}: ${messageOf(error)}`, { cause: error, facts: { code: error.code } })
    })
    writeOne(io, options.output, verdict, verdictView)
    if (verdict.status !== 'good') io.setExitCode(9)
  })
}

export const ocspCommand = (io: CommandIo): Command =>
  new Command('ocsp').description('certificate status over OCSP').addCommand(checkCommand(io))
