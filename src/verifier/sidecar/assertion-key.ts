// The key that assertions are signed with: made at the first start, kept from then on, of this sidecar alone. Its public half lies beside it
// for the backends, which need nothing else to verify: no secret is shared, so no backend can make what another one believes.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { messageOf } from '../../base/errors.ts'
import { createPublishedFile } from '../../base/published-file.ts'
import { SidecarError } from './errors.ts'

const keyFile = 'assertion.key'
export const publicKeyFile = 'assertion.pub.pem'

const readKey = async (path: string): Promise<KeyObject | null> => {
  let pem: string
  try {
    pem = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new SidecarError('file_unreadable', `cannot read the assertion key: ${messageOf(error)}`)
  }
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key
  } catch (cause) {
    throw new SidecarError('file_malformed', `${path} is no private key: ${messageOf(cause)}`, { hint: `rm ${path}` })
  }
  throw new SidecarError('file_malformed', `${path} is no P-256 key`, { hint: `rm ${path}` })
}

/** Durable under its name, or not there: a key that was used and is lost would leave backends with a stranger's assertions. */
const makeKey = async (path: string): Promise<KeyObject> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(privateKey.export({ type: 'pkcs8', format: 'pem' }))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
  return privateKey
}

/**
 * @param directory made where it is missing (0700)
 * @param publicKeyPath where backends read the public key
 * @throws SidecarError `file_unreadable`, `file_malformed`; the error of the file system
 */
export const openAssertionKey = async (directory: string, publicKeyPath: string | null): Promise<KeyObject> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, keyFile)
  const key = (await readKey(path)) ?? (await makeKey(path))
  const pem = createPublicKey(key).export({ type: 'spki', format: 'pem' }) as string
  const target = publicKeyPath ?? join(directory, publicKeyFile)
  await mkdir(dirname(target), { recursive: true })
  await createPublishedFile(target).show(new TextEncoder().encode(pem))
  return key
}
