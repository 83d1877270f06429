// Telling systemd how it goes (sd_notify(3)): ready, status, watchdog, stopping. Node opens no unix datagram sockets, so systemd's own
// `systemd-notify` carries the word; it comes from another process of this unit, which NotifyAccess=all allows.
import { execFile } from 'node:child_process'
import type { Log } from '../../base/log.ts'
import type { DaemonIo } from './io.ts'

export interface ServiceManager {
  ready(status: string): Promise<void>
  status(status: string): void
  stopping(): Promise<void>
  end(): void
}

const silent: ServiceManager = { ready: async () => {}, status: () => {}, stopping: async () => {}, end: () => {} }

/** One line, whatever a name holds. */
const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').slice(0, 200)

/** @param alive whether the work goes on; while it does not, the watchdog hears nothing and systemd starts the unit again */
export const createServiceManager = (io: DaemonIo, log: Log, alive: () => boolean): ServiceManager => {
  if ((io.env.NOTIFY_SOCKET ?? '') === '') return silent
  let missing = false
  const notify = (...words: readonly string[]): Promise<void> =>
    new Promise(resolve => {
      if (missing) {
        resolve()
        return
      }
      execFile('systemd-notify', [...words], { env: io.env as NodeJS.ProcessEnv, timeout: 10_000 }, error => {
        if ((error as NodeJS.ErrnoException | null)?.code === 'ENOENT') {
          missing = true
          log.warn({ hint: 'install systemd, or use Type=exec without WatchdogSec' }, 'systemd-notify is not there')
        } else if (error !== null) log.debug({ err: error }, 'systemd did not hear')
        resolve()
      })
    })
  const watchdogMs = Number(io.env.WATCHDOG_USEC ?? 0) / 1000
  let timer: NodeJS.Timeout | undefined
  return {
    ready: async status => {
      await notify('--ready', `--status=${oneLine(status)}`)
      // sd_watchdog_enabled(3): at half of the time.
      if (watchdogMs > 0)
        timer = setInterval(() => {
          if (alive()) void notify('WATCHDOG=1')
        }, watchdogMs / 2)
    },
    status: status => void notify(`--status=${oneLine(status)}`),
    stopping: () => notify('STOPPING=1'),
    end: () => clearInterval(timer),
  }
}
