// The files of one credential as a directory of their own, and back. Whoever opens them through one resolved `..data` sees one
// generation; `credential-bundle.pem` alone is enough for a program that wants key and certificate in one read.
import { open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { encodePem, parsePem } from '../pki/pem.ts'
import { parseIdentityFacts } from './answer.ts'
import { type Credential, checkTogether, credentialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import { encodePrivateKey, parsePrivateKey } from './key-pair.ts'

export const fileNames = ['credential-bundle.pem', 'tls.key', 'tls.crt', 'ca.crt', 'crl.pem', 'identity.json'] as const
export type FileName = (typeof fileNames)[number]

export const holdsKey = (name: FileName): boolean => name === 'credential-bundle.pem' || name === 'tls.key'

export interface FileAccess {
  /** Of the two files that hold the key; all others are 0644. */
  readonly keyMode: number
  /** null: as the process has it. */
  readonly uid: number | null
  readonly gid: number | null
}

/** What is null stays as the generation before has it: whoever renews need not know what whoever enrolled asked for. */
export type AskedAccess = { readonly [K in keyof FileAccess]: FileAccess[K] | null }

export const ownerOnly: FileAccess = { keyMode: 0o600, uid: null, gid: null }

/** @param before path of the generation before; null for none */
export const accessLike = async (before: string | null, asked: AskedAccess): Promise<FileAccess> => {
  const key = before === null ? null : await stat(join(before, 'tls.key')).catch(() => null)
  // Only root gives files away; others keep what they may keep, a group of theirs.
  const isRoot = process.getuid?.() === 0
  const keepsGroup = key !== null && (isRoot || (process.getgroups?.() ?? []).includes(key.gid))
  return {
    keyMode: asked.keyMode ?? (key === null ? ownerOnly.keyMode : key.mode & 0o777),
    uid: asked.uid ?? (key !== null && isRoot ? key.uid : null),
    gid: asked.gid ?? (keepsGroup ? key.gid : null),
  }
}

const contentOf = (credential: Credential, crlPem: string): Readonly<Record<FileName, string>> => {
  const key = encodePrivateKey(credential.privateKey)
  const chain = credential.certificatePem + credential.chainPem
  const { url, enrolledWith } = credential
  return {
    'credential-bundle.pem': key + chain,
    'tls.key': key,
    'tls.crt': chain,
    'ca.crt': credential.bundlePem,
    'crl.pem': crlPem,
    'identity.json': `${JSON.stringify({ ...credential.facts, url, enrolledWith }, null, 2)}\n`,
  }
}

export const syncDirectory = async (path: string): Promise<void> => {
  await using handle = await open(path, 'r')
  await handle.sync()
}

/** Durable when it resolves. The mode is set on the open file: neither the umask nor an older file has a say. */
export const writeDurably = async (path: string, content: string, access: FileAccess & { readonly mode: number }) => {
  await using handle = await open(path, 'wx', 0o600)
  await handle.writeFile(content)
  if (access.uid !== null || access.gid !== null) await handle.chown(access.uid ?? -1, access.gid ?? -1)
  await handle.chmod(access.mode)
  await handle.sync()
}

export const writeGeneration = async (
  path: string,
  credential: Credential,
  crlPem: string,
  access: FileAccess,
): Promise<void> => {
  const content = contentOf(credential, crlPem)
  for (const name of fileNames)
    await writeDurably(join(path, name), content[name], { ...access, mode: holdsKey(name) ? access.keyMode : 0o644 })
  await syncDirectory(path)
}

const malformed = (path: string, error: unknown): AgentError =>
  AgentError.of('directory_malformed', `${path} holds no readable credential: ${messageOf(error)}`, {
    hint: 'enrol again with fresh evidence: agentca enroll',
    cause: error,
  })

const keyBlock = /^-----BEGIN PRIVATE KEY-----\n[^-]*-----END PRIVATE KEY-----\n/

const parseGeneration = (bundle: string, roots: string, identity: string): Credential => {
  const keyPem = keyBlock.exec(bundle)?.[0]
  if (keyPem === undefined) throw new Error('credential-bundle.pem does not begin with a PKCS#8 key')
  const [leaf, ...intermediates] = parsePem(bundle.slice(keyPem.length), 'CERTIFICATE')
  const { url, enrolledWith, ...facts } = JSON.parse(identity) as Record<string, unknown>
  if (typeof url !== 'string') throw new Error('identity.json names no url')
  const pem = (der: Uint8Array) => encodePem('CERTIFICATE', der)
  return credentialOf(
    {
      ...parseIdentityFacts(facts),
      certificate: pem(leaf!),
      chain: intermediates.map(pem).join(''),
      bundle: roots,
    },
    parsePrivateKey(parsePem(keyPem, 'PRIVATE KEY')[0]!),
    { url, enrolledWith: typeof enrolledWith === 'string' ? enrolledWith : null },
  )
}

/**
 * @param path of one generation, not of a link that may move meanwhile
 * @throws AgentError `directory_malformed`; the system's error when a file cannot be opened
 */
export const readGeneration = async (path: string): Promise<Credential> => {
  const read = (name: FileName) => readFile(join(path, name), 'utf8')
  const [bundle, roots, identity] = [
    await read('credential-bundle.pem'),
    await read('ca.crt'),
    await read('identity.json'),
  ]
  let credential: Credential
  try {
    credential = parseGeneration(bundle, roots, identity)
  } catch (error) {
    throw malformed(path, error)
  }
  checkTogether(credential)
  return credential
}
