// A connection to the core. A unix socket whose queue is full refuses at once (EAGAIN), where TCP would ask again: so it is asked again here.
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const againMs = 10
/** A core that takes nobody for longer has no time for a request either. */
const patienceMs = 2_000

const connectOnce = (path: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })

/** @throws Error as the system says it */
export const connectToCore = async (path: string): Promise<Socket> => {
  for (let waited = 0; ; waited += againMs) {
    try {
      return await connectOnce(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || waited >= patienceMs) throw error
    }
    await delay(againMs)
  }
}
