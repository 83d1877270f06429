// Publication of CRLs when a part of it fails: signer, disk, ledger, files of somebody else.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodePem } from '../../src/pki/pem.ts'
import { eventually } from '../signer/harness.ts'
import { createIssuingCrl, createRootCrl } from './ceremony-crl.ts'
import { createPublication, crlFile, issuingCrl, type Publication, pemText, serialsOf } from './publication.ts'

let world: Publication
beforeAll(async () => {
  world = await createPublication()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const day = 86_400_000

describe('publication of CRLs', () => {
  it('serves the last list at a start with a dead signer, and publishes again when it is back', async () => {
    const directory = world.newDirectory()
    const before = await world.openPublisher(directory)
    const last = issuingCrl(before)
    await before.close()
    const [serial] = await world.enrolled('during-outage')
    await world.revoke(serial!)

    await using broken = world.breakableSigner(true)
    await using publisher = await world.openPublisher(directory, { signer: broken.signer })
    expect(issuingCrl(publisher)).toEqual(last)
    expect(pemText(publisher.bundle().pem)).toBe(encodePem('X509 CRL', last.der))
    await expect(publisher.publish()).rejects.toMatchObject({ code: 'signer_unavailable' })
    expect(issuingCrl(publisher)).toEqual(last)
    broken.dead = false
    await eventually('a new list', () => serialsOf(readFileSync(crlFile(directory))).includes(serial!))
    expect(issuingCrl(publisher).number).toBeGreaterThan(last.number)
  })

  it('is there when the HSM hangs at a start', async () => {
    const directory = world.newDirectory()
    const before = await world.openPublisher(directory)
    const last = issuingCrl(before)
    await before.close()
    const hanging = Promise.withResolvers<Uint8Array>()
    const signer = { ...world.ca.signer.client, sign: () => hanging.promise }
    await using publisher = await world.openPublisher(directory, { signer })
    expect(issuingCrl(publisher)).toEqual(last)
    hanging.reject(new Error('too late'))
  })

  it('survives the death of the signer process', async () => {
    await using publisher = await world.openPublisher(world.newDirectory())
    const [serial] = await world.enrolled('killed-signer')
    process.kill(world.ca.signer.supervisor.state().pid as number, 'SIGKILL')
    await world.revoke(serial!)
    await eventually('listed', () => serialsOf(issuingCrl(publisher).der).includes(serial!))
    await world.ca.signer.supervisor.ready(15_000)
  })

  it('goes on from memory when the disk fails, and writes the file when it is back', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    const path = crlFile(directory)
    rmSync(path)
    mkdirSync(path)
    const [serial] = await world.enrolled('no-disk')
    await world.revoke(serial!)
    await eventually('in memory', () => serialsOf(issuingCrl(publisher).der).includes(serial!))
    await expect(publisher.publish()).rejects.toThrow()
    rmSync(path, { recursive: true })
    await eventually('in the file', () => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
    expect(serialsOf(readFileSync(path))).toContain(serial)
  })

  it('publishes after a crash what was recorded just before it', async () => {
    const directory = world.newDirectory()
    let crashes = false
    const reached = (step: string) => {
      if (crashes && step === 'crl 4') throw new Error('the process ends here')
    }
    await using publisher = await world.openPublisher(directory, { reached })
    const first = issuingCrl(publisher)
    crashes = true
    await expect(publisher.publish()).rejects.toThrow('ends here')
    await publisher.close()
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(first.der))

    await using broken = world.breakableSigner(true)
    await using again = await world.openPublisher(directory, { signer: broken.signer })
    expect(issuingCrl(again).number).toBeGreaterThan(first.number)
    expect(issuingCrl(again).der).toEqual(world.ca.ledger.status.latestCrl(world.ca.issuer.id)?.der)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(issuingCrl(again).der))
  })

  it('writes a file again that was damaged or removed', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    writeFileSync(crlFile(directory), 'rubbish')
    writeFileSync(crlFile(directory, '.retired-long-ago.crl.tmp'), 'left by a crash')
    const [list] = await publisher.publish()
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(list!.der))
    await publisher.close()
    rmSync(crlFile(directory))
    await using again = await world.openPublisher(directory)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(issuingCrl(again).der))
    expect(readdirSync(join(directory, 'crl')).sort()).toEqual(['bundle.pem', 'issuing-1.crl'])
  })

  it('never publishes a number at or below the published one, and goes on serving that', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    const ahead = await createIssuingCrl(world.ca, { number: BigInt(Date.now() + day), nextUpdate: Date.now() + day })
    writeFileSync(crlFile(directory), ahead)
    await expect(publisher.publish()).rejects.toMatchObject({ code: 'crl_number_regressed' })
    expect(issuingCrl(publisher).der).toEqual(ahead)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(ahead))
    await publisher.close()
    await using again = await world.openPublisher(directory)
    expect(issuingCrl(again).der).toEqual(ahead)
    await expect(again.publish()).rejects.toMatchObject({ code: 'crl_number_regressed' })
  })

  it('does not believe a file that another CA signed, or nobody', async () => {
    const directory = world.newDirectory()
    mkdirSync(join(directory, 'crl'))
    const forged = Uint8Array.from(await createIssuingCrl(world.ca, { number: BigInt(Date.now() + day) }))
    forged[forged.length - 1]! ^= 1
    writeFileSync(crlFile(directory), forged)
    await using publisher = await world.openPublisher(directory)
    const first = issuingCrl(publisher)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(first.der))
    writeFileSync(crlFile(directory), await createRootCrl(world.ca, { number: BigInt(Date.now() + day) }))
    await publisher.publish()
    expect(issuingCrl(publisher).number).toBeGreaterThan(first.number)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(issuingCrl(publisher).der))
  })
})
