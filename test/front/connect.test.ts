// The way from a front to a core that has no time to take connections.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { connectToCore } from '../../src/front/connect.ts'
import { openCoreChannel } from '../../src/front/core-channel.ts'

let directory: string
let path: string
let core: Server
let taken: Socket[]
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-connect-'))
  path = join(directory, 'front.sock')
  taken = []
  core = createServer(socket => taken.push(socket))
  // Of connections that are asked for in one turn, in which nobody takes them, the kernel keeps two.
  core.listen({ path, backlog: 1 })
  await once(core, 'listening')
})
afterEach(async () => {
  for (const socket of taken) socket.destroy()
  if (core.listening) await new Promise(resolve => core.close(resolve))
  rmSync(directory, { recursive: true, force: true })
})

test('is asked for again when the socket is full', async () => {
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connectToCore(path)))
  await expect.poll(() => taken.length).toBe(20)
  for (const socket of sockets) socket.destroy()
})

test('is given up at once where nobody listens', async () => {
  await new Promise(resolve => core.close(resolve))
  await expect(connectToCore(path)).rejects.toMatchObject({ code: 'ENOENT' })
})

test('for calls carries what was said before it stood', async () => {
  const ends: string[] = []
  const channels = Array.from({ length: 20 }, (_, index) => {
    const secret = `secret of ${index};`
    const channel = openCoreChannel({ socket: path, secret }, { onMessage: () => {}, onEnd: why => ends.push(why) })
    channel.tell({ t: 'listening', port: 10_000 + index })
    return channel
  })
  await expect.poll(() => taken.length).toBe(20)
  const heard = await Promise.all(
    taken.map(async socket => {
      let text = ''
      socket.setEncoding('latin1').on('data', chunk => {
        text += chunk
      })
      await expect.poll(() => text).toContain('listening')
      return (/secret of (\d+);.*"port":(\d+)/s.exec(text) ?? []).slice(1).map(Number)
    }),
  )
  expect(heard.toSorted(([a = 0], [b = 0]) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => [i, 10_000 + i]))
  expect(ends).toEqual([])
  for (const channel of channels) channel.end()
})
