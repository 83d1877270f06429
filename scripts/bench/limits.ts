// The limits themselves: what the bare cryptography costs here and now. Bare servers are in bare-server.ts.
import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { ck, finalizeCryptoki, initializeCryptoki, loadCryptoki } from '../../src/signer/cryptoki.ts'
import { initSoftHsmToken, softHsmPaths } from '../../src/signer/softhsm-token.ts'
import { findSlot, readPinFile } from '../../src/signer/token.ts'

const microsecondsSince = (from: NodeJS.CpuUsage): number => {
  const used = process.cpuUsage(from)
  return used.user + used.system
}

/** CPU of one call in microseconds. */
const cpuOf = (call: () => void, times: number): number => {
  for (let i = 0; i < times / 10; i++) call()
  const from = process.cpuUsage()
  for (let i = 0; i < times; i++) call()
  return microsecondsSince(from) / times
}

const times = 2_000

/** @returns what measures one P-256 verification of a certificate-sized message, as node:crypto does it with an imported key */
export const createVerificationLimit = (): (() => number) => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const message = Buffer.alloc(600, 7)
  const signature = sign('sha256', message, privateKey)
  return () =>
    cpuOf(() => {
      if (!verify('sha256', message, publicKey, signature)) throw new Error('not verified')
    }, times)
}

export interface HsmLimit extends Disposable {
  /** CPU of one raw C_Sign (P-256) on SoftHSM2, in microseconds. */
  measure(): number
}

/** @param directory of a token that is made for this and nothing else */
export const createHsmLimit = async (directory: string): Promise<HsmLimit> => {
  const made = initSoftHsmToken({ directory, label: 'bench' })
  {
    await using token = await openCeremonyToken(made.uri, { softhsmConf: made.confPath })
    await token.generateKey('bench', 'P-256')
  }
  const cryptoki = loadCryptoki(made.modulePath)
  initializeCryptoki(cryptoki)
  const slot = findSlot(cryptoki, {
    modulePath: made.modulePath,
    tokenLabel: 'bench',
    tokenSerial: undefined,
    softhsmConf: made.confPath,
  })
  const session = cryptoki.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION)
  cryptoki.C_Login(session, ck.CKU_USER, readPinFile(softHsmPaths(directory).pinFile))
  cryptoki.C_FindObjectsInit(session, [{ type: ck.CKA_CLASS, value: ck.CKO_PRIVATE_KEY }])
  const [key] = cryptoki.C_FindObjects(session, 1)
  cryptoki.C_FindObjectsFinal(session)
  if (key === undefined) throw new Error('no key in the bench token')
  const digest = Buffer.alloc(32, 9)
  return {
    measure: () =>
      cpuOf(() => {
        cryptoki.C_SignInit(session, { mechanism: ck.CKM_ECDSA }, key)
        cryptoki.C_Sign(session, digest, Buffer.alloc(64))
      }, times),
    [Symbol.dispose]: () => finalizeCryptoki(cryptoki),
  }
}
