// The public halves of the online keys that no certificate carries (OCSP responder, log), kept as files at `init`: who they are must be
// known while the HSM is dead.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodePem, parseOnePem } from '../pki/pem.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from '../pki/spki.ts'
import { ServerError } from './errors.ts'
import type { HomePaths } from './home.ts'

export const onlineKeyFile = (paths: Pick<HomePaths, 'issuers'>, label: string): string =>
  join(paths.issuers, `${label}.pub.pem`)

export const writeOnlineKey = (paths: Pick<HomePaths, 'issuers'>, label: string, spkiDer: Uint8Array): void => {
  writeFileSync(onlineKeyFile(paths, label), encodePem('PUBLIC KEY', spkiDer), { mode: 0o644 })
}

/** @throws ServerError `key_file_missing`, PkiError */
export const readOnlineKey = (paths: Pick<HomePaths, 'issuers'>, label: string): SubjectPublicKeyInfo => {
  const file = onlineKeyFile(paths, label)
  if (!existsSync(file))
    throw new ServerError('key_file_missing', `expected the public key of ${label} in ${file}`, {
      hint: 'agentca init',
    })
  return parseSubjectPublicKeyInfo(parseOnePem(readFileSync(file, 'utf8'), 'PUBLIC KEY'))
}
