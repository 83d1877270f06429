// The limits themselves: what the bare cryptography and the bare server cost here and now.
import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { ck, finalizeCryptoki, initializeCryptoki, loadCryptoki } from '../../src/signer/cryptoki.ts'
import { initSoftHsmToken, softHsmPaths } from '../../src/signer/softhsm-token.ts'
import { findSlot, readPinFile } from '../../src/signer/token.ts'

const cpuMicroseconds = (from: NodeJS.CpuUsage): number => {
  const used = process.cpuUsage(from)
  return used.user + used.system
}

/** CPU of one P-256 verification of a certificate-sized message, in microseconds, as node:crypto does it with an imported key. */
export const verificationCpu = (): number => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const message = Buffer.alloc(600, 7)
  const signature = sign('sha256', message, privateKey)
  const run = (n: number) => {
    for (let i = 0; i < n; i++) if (!verify('sha256', message, publicKey, signature)) throw new Error('not verified')
  }
  run(200)
  const from = process.cpuUsage()
  run(2000)
  return cpuMicroseconds(from) / 2000
}

/** CPU of one raw C_Sign (P-256) on SoftHSM2, in microseconds: a token made for this in `directory`. */
export const hsmSignatureCpu = async (directory: string): Promise<number> => {
  const made = initSoftHsmToken({ directory, label: 'bench' })
  {
    await using token = await openCeremonyToken(made.uri, { softhsmConf: made.confPath })
    await token.generateKey('bench', 'P-256')
  }
  const cryptoki = loadCryptoki(made.modulePath)
  initializeCryptoki(cryptoki)
  try {
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
    const run = (n: number) => {
      for (let i = 0; i < n; i++) {
        cryptoki.C_SignInit(session, { mechanism: ck.CKM_ECDSA }, key)
        cryptoki.C_Sign(session, digest, Buffer.alloc(64))
      }
    }
    run(200)
    const from = process.cpuUsage()
    run(2000)
    return cpuMicroseconds(from) / 2000
  } finally {
    finalizeCryptoki(cryptoki)
  }
}

/** User and system CPU of a process so far, in microseconds (proc(5); a tick is 10 ms). */
export const processCpu = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

/** A bare node:http server that answers everything with these bytes. */
export const bareServer = async (
  body: Uint8Array,
  contentType: string,
): Promise<{ readonly url: string; readonly server: Server }> => {
  const bytes = Buffer.from(body)
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': contentType, 'content-length': bytes.length })
    response.end(bytes)
  })
  server.listen(0, '127.0.0.1')
  while (!server.listening) await turn()
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }
}
