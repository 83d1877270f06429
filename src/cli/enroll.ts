// `agentca enroll`: a join token becomes an identity in a credential directory. Runs where the agent runs and asks the CA's own API;
// everything but options, output and the hook is the agent's SDK.
import { resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { defaultPatienceSeconds, type Patience, systemTiming, untilAnswered } from '../agent/backoff.ts'
import type { Credential } from '../agent/credential.ts'
import { type CredentialDirectory, openCredentialDirectory } from '../agent/credential-directory.ts'
import { fetchCrls, unverifiedHint } from '../agent/crl-fetch.ts'
import { checkCa, type Enrolment, enrol, evidenceHash } from '../agent/enrol.ts'
import { AgentError } from '../agent/errors.ts'
import { createEvidenceReader, type Evidence } from '../agent/evidence.ts'
import type { TrustAnchors } from '../agent/trust-anchors.ts'
import { messageOf } from '../base/errors.ts'
import { secondsArgument } from './arguments.ts'
import { runChangeHook, wordsOf } from './change-hook.ts'
import { CliError, ServerRefusal } from './errors.ts'
import { groupId, userId } from './file-owner.ts'
import { readSecret } from './files.ts'
import type { CommandIo } from './io.ts'
import { type OutputOptions, type View, withOutput, writeOne } from './output.ts'

interface EnrollOptions extends OutputOptions {
  readonly url?: string
  readonly caFile?: string
  readonly caFingerprint?: string
  readonly tokenFile?: string
  readonly jwtFile?: string
  readonly evidenceCertificate?: string
  readonly evidenceKey?: string
  readonly dir?: string
  readonly owner?: string
  readonly group?: string
  readonly keyMode?: number
  readonly onChange?: string
  readonly patience: number
  readonly dryRun?: true
}

const keyModeArgument = (text: string): number => {
  const mode = Number.parseInt(text, 8)
  // The key must be readable by its owner, and is nobody's business outside its group.
  if (/^0?[46][04]0$/.test(text)) return mode
  throw new InvalidArgumentError('expected 0400, 0440, 0600 or 0640')
}

/** The CA's own refusals are told as every other command tells them: with their request id. */
const translated = (error: unknown): unknown => {
  if (!(error instanceof AgentError) || error.origin === 'agent') return error
  const { code, message, hint, facts } = error
  const [status, requestId] = [error.status ?? 0, error.requestId ?? '-']
  const type = `urn:agentca:problem:${code}`
  const cure = hint === undefined ? {} : { hint }
  return new ServerRefusal({ type, title: message, status, detail: message, code, requestId, facts, ...cure })
}

interface Wanted {
  readonly url: string
  readonly anchors: TrustAnchors
  readonly evidence: () => Promise<Evidence>
  readonly dir: string
}

type Pick = (flag: string, option: string | undefined, variable: string) => string

/** One kind; flags before paths of the environment. */
const evidenceOf = (io: CommandIo, options: EnrollOptions, pick: Pick): (() => Promise<Evidence>) => {
  const { tokenFile, jwtFile, evidenceCertificate, evidenceKey } = options
  const named = Object.entries({ tokenFile, jwtFile, evidenceCertificate }).filter(([, file]) => file !== undefined)
  if (named.length > 1)
    throw new CliError('usage', '--token-file, --jwt-file and --evidence-certificate exclude each other')
  const fromEnvironment = named.length === 0 && (io.env.AGENTCA_TOKEN_FILE ?? '') === ''
  const jwt = jwtFile ?? (fromEnvironment ? io.env.AGENTCA_JWT_FILE : undefined)
  const certificate = evidenceCertificate ?? (fromEnvironment ? io.env.AGENTCA_EVIDENCE_CERTIFICATE : undefined)
  if (jwt !== undefined && jwt !== '') return createEvidenceReader({ jwtFile: resolve(io.cwd, jwt) })
  if (certificate !== undefined && certificate !== '') {
    const key = pick('--evidence-key', evidenceKey, 'AGENTCA_EVIDENCE_KEY')
    return createEvidenceReader({ certificateFile: resolve(io.cwd, certificate), keyFile: resolve(io.cwd, key) })
  }
  const token = pick('--token-file, --jwt-file or --evidence-certificate', tokenFile, 'AGENTCA_TOKEN_FILE')
  return async () => ({ type: 'token', secret: await readSecret(io, token) })
}

/** Flags before paths of the environment; nothing is guessed. */
const wantedOf = (io: CommandIo, options: EnrollOptions): Wanted => {
  const pick = (flag: string, option: string | undefined, variable: string): string => {
    const value = option ?? io.env[variable]
    if (value !== undefined && value !== '') return value
    throw new CliError('usage', `${flag} is missing (or ${variable})`, {
      hint: 'agentca token create prints the whole command line; agentca enroll --help',
    })
  }
  const { caFile, caFingerprint } = options
  if (caFile !== undefined && caFingerprint !== undefined)
    throw new CliError('usage', '--ca-file and --ca-fingerprint exclude each other')
  const url = pick('--url', options.url, 'AGENTCA_URL')
  const anchors =
    caFingerprint === undefined
      ? { caFile: resolve(io.cwd, pick('--ca-file or --ca-fingerprint', caFile, 'AGENTCA_CA_FILE')) }
      : { caFingerprint }
  return {
    url,
    anchors,
    evidence: evidenceOf(io, options, pick),
    dir: resolve(io.cwd, pick('--dir', options.dir, 'AGENTCA_DIR')),
  }
}

type Enrolled = Credential['facts'] & { readonly url: string; readonly dir: string }

const enrolledView: View<Enrolled> = {
  columns: (['spiffeId', 'serial', 'generation', 'notAfter', 'renewAfter', 'notGranted', 'url', 'dir'] as const).map(
    name => ({ name, value: row => row[name] }),
  ),
  name: row => row.spiffeId,
}

const evidenceNames = { token: 'token', jwt: 'JWT', x509: 'certificate' } as const

/** The same command again, with the token that this identity came from, has nothing left to do. */
const alreadyEnrolled = async (directory: CredentialDirectory, { secret }: Evidence): Promise<Credential | null> => {
  // What cannot be read any more is what enrolling again is for.
  const present = await directory.load().catch(() => null)
  return present?.enrolledWith === evidenceHash(secret) && present.notAfter > Date.now() ? present : null
}

const never = new AbortController().signal

const openDirectory = async (dir: string, options: EnrollOptions): Promise<CredentialDirectory> =>
  openCredentialDirectory(dir, {
    keyMode: options.keyMode ?? null,
    uid: options.owner === undefined ? null : await userId(options.owner),
    gid: options.group === undefined ? null : await groupId(options.group),
  })

/** The identity is good without them: whoever wants to check revocation by files fetches them again. */
const writeCrls = async (io: CommandIo, directory: CredentialDirectory, credential: Credential): Promise<void> => {
  try {
    const fetched = await fetchCrls(credential, Date.now(), never)
    if (fetched === null) return
    for (const issuer of fetched.leftOut) io.err(`the list of ${issuer} is left out of crl.pem: ${unverifiedHint}\n`)
    await directory.saveCrls(fetched.pem)
  } catch (error) {
    io.err(`crl.pem stays empty: ${messageOf(error)}\n`)
  }
}

const run = async (io: CommandIo, options: EnrollOptions): Promise<void> => {
  const { url, anchors, evidence, dir } = wantedOf(io, options)
  const hook = options.onChange === undefined ? null : wordsOf(options.onChange)
  const shown = await evidence()
  const enrolment: Enrolment = { url, anchors, evidence: shown, service: null }
  if (options.dryRun === true) {
    await checkCa({ url, anchors }, never)
    io.err(`dry run: ${url} proved to be the CA, nothing else was done\n`)
    return
  }
  await using directory = await openDirectory(dir, options)
  const show = ({ facts }: Credential) => writeOne(io, options.output, { ...facts, url, dir }, enrolledView)
  const present = await alreadyEnrolled(directory, shown)
  if (present !== null) {
    show(present)
    io.err(`this ${evidenceNames[shown.type]} enrolled the identity that is here already; nothing was done\n`)
    return
  }
  const deps = { timing: systemTiming, store: directory, keyAlgorithm: 'P-256', signal: never } as const
  const patience: Patience = {
    patienceSeconds: options.patience,
    signal: never,
    onRetry: (error, waitMs) => io.err(`${error.message}; asking again in ${Math.ceil(waitMs / 1000)} s\n`),
  }
  const credential = await untilAnswered(systemTiming, patience, () => enrol(deps, enrolment))
  await writeCrls(io, directory, credential)
  show(credential)
  io.err(`enrolled; next: curl --cacert ${dir}/ca.crt --cert ${dir}/tls.crt --key ${dir}/tls.key https://PEER\n`)
  if (hook !== null && !(await runChangeHook(io, hook, dir))) io.setExitCode(8)
}

export const enrollCommand = (io: CommandIo): Command => {
  const command = withOutput(
    new Command('enroll')
      .description(
        'turn a join token, or evidence that an attestor vouches for, into an identity, in a directory of files',
      )
      .option('--url <url>', 'API of the CA, https://HOST:PORT (AGENTCA_URL)')
      .option('--ca-file <file>', 'the roots to trust, PEM (AGENTCA_CA_FILE)')
      .option('--ca-fingerprint <sha256:hex>', 'the one root to trust, by the SHA-256 of its DER')
      .option('--token-file <file>', 'the join token, - for standard input (AGENTCA_TOKEN_FILE)')
      .option('--jwt-file <file>', 'a JWT of an identity provider that the CA has an attestor for (AGENTCA_JWT_FILE)')
      .option('--evidence-certificate <file>', 'a certificate of an authority that the CA has an attestor for, PEM')
      .option('--evidence-key <file>', 'its private key, PEM: it signs and is not sent')
      .option('--dir <dir>', 'where the identity goes; made if it is not there (AGENTCA_DIR)')
      .option('--owner <user>', 'user who shall own the files, name or number')
      .option('--group <group>', 'group of the files, name or number')
      .addOption(
        new Option('--key-mode <mode>', 'mode of the two files that hold the key, 0600 unless given').argParser(
          keyModeArgument,
        ),
      )
      .option('--on-change <command>', 'run after the files changed, without a shell, AGENTCA_DIR in its environment')
      .option(
        '--patience <duration>',
        'how long to go on asking a CA that cannot answer now',
        secondsArgument,
        defaultPatienceSeconds,
      )
      .option('--dry-run', 'only check that the CA is there and is the one that is trusted'),
    ['table', 'json', 'jsonl', 'name'],
  )
  return command.action(async () => {
    await run(io, command.opts<EnrollOptions>()).catch(error => {
      throw translated(error)
    })
  })
}
