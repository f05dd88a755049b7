/** Counters of served volumes over HTTP, in the format of Prometheus. Loaded only where they are asked for. */
import { Counter, Gauge, Histogram, type MetricObjectWithValues, type MetricType, type MetricValueWithName, Registry } from 'prom-client';
import { type MetricsServer, serveRegistry } from '../metrics-server.js';
import type { NbdLatencies, NbdRequestKind, NbdServer } from '../nbd/server.js';

/** A server, and the volumes behind it: the server counts for all of them together. */
export interface MeasuredServer {
  readonly server: Pick<NbdServer, 'stats' | 'uri'>;
  readonly volumes: readonly { readonly volumeId: string; readonly path: string }[];
}

/**
 * Serves the counters at `/metrics`. @param address a loopback address
 * @throws {VolsealError} as `serveRegistry`
 */
export const serveMetrics = (
  address: { readonly host: string; readonly port: number },
  servers: readonly MeasuredServer[],
): Promise<MetricsServer> => serveRegistry(address, registryOf(servers));

/** The names, and which statistic of a server each one shows. */
const COUNTERS = {
  volseal_requests_total: { help: 'Requests that were answered, errors included', of: 'requests' },
  volseal_request_errors_total: { help: 'Requests that were answered with an error', of: 'errors' },
  volseal_read_bytes_total: { help: 'Bytes of plaintext that clients have read', of: 'bytesRead' },
  volseal_written_bytes_total: { help: 'Bytes of plaintext that clients have written', of: 'bytesWritten' },
  volseal_clients_total: { help: 'Clients that ever connected', of: 'connectionsTotal' },
  volseal_clients_refused_total: { help: 'Clients that were turned away', of: 'connectionsRefused' },
} as const;

const REQUEST_SECONDS = 'volseal_request_seconds';
const REQUEST_SECONDS_HELP = 'Time from the arrival of a request until its reply is ready to be sent';

type HistogramLabel = 'volume' | 'kind' | 'le';
type Sample = MetricValueWithName<HistogramLabel>;

const labelsOf = ({ volumes }: MeasuredServer) => ({ volume: volumes.map(({ volumeId }) => volumeId).join(',') });

/** The servers count into buckets themselves: a histogram that is read, and never observes. */
class RequestSeconds extends Histogram<HistogramLabel> {
  readonly #servers: readonly MeasuredServer[];

  constructor(servers: readonly MeasuredServer[]) {
    super({
      name: REQUEST_SECONDS,
      help: REQUEST_SECONDS_HELP,
      labelNames: ['volume', 'kind'],
      registers: [],
    });
    this.#servers = servers;
  }

  override async get(): Promise<MetricObjectWithValues<Sample>> {
    const values = this.#servers.flatMap((measured) =>
      Object.entries(measured.server.stats().latencies).flatMap(([kind, latencies]) =>
        samplesOf({ ...labelsOf(measured), kind: kind as NbdRequestKind }, latencies),
      ),
    );
    // The enumeration exists for the compiler only.
    const type = 'histogram' as unknown as MetricType;
    return { name: REQUEST_SECONDS, help: REQUEST_SECONDS_HELP, type, aggregator: 'sum', collect: () => {}, values };
  }

  /** What the text format is made of: the same, with labels that need not be put together. */
  getForPromString(): Promise<MetricObjectWithValues<Sample>> {
    return this.get();
  }
}

/** The samples of one histogram: buckets that count all up to a limit in seconds, the sum and the count. */
function samplesOf(labels: { volume: string; kind: NbdRequestKind }, { counts, seconds }: NbdLatencies): Sample[] {
  let count = 0;
  const buckets = counts.map((own, index): Sample => {
    count += own;
    const le = index === counts.length - 1 ? '+Inf' : 2 ** index / 1e6;
    return { metricName: `${REQUEST_SECONDS}_bucket`, labels: { ...labels, le }, value: count };
  });
  return [
    ...buckets,
    { metricName: `${REQUEST_SECONDS}_sum`, labels, value: seconds },
    { metricName: `${REQUEST_SECONDS}_count`, labels, value: count },
  ];
}

/** The metrics of `servers`, read when somebody asks for them. */
export function registryOf(servers: readonly MeasuredServer[]): Registry {
  const registry = new Registry();
  const registers = [registry];
  for (const [name, { help, of }] of Object.entries(COUNTERS)) {
    new Counter({
      name,
      help,
      labelNames: ['volume'],
      registers,
      collect() {
        this.reset();
        for (const measured of servers) this.inc(labelsOf(measured), measured.server.stats()[of]);
      },
    });
  }
  registry.registerMetric(new RequestSeconds(servers));
  new Gauge({
    name: 'volseal_clients',
    help: 'Clients that are connected now',
    labelNames: ['volume'],
    registers,
    collect() {
      for (const measured of servers) this.set(labelsOf(measured), measured.server.stats().connections);
    },
  });
  new Gauge({
    name: 'volseal_attached_volumes',
    help: 'Volumes that this process has attached',
    registers,
    collect() {
      this.set(servers.reduce((sum, { volumes }) => sum + volumes.length, 0));
    },
  });
  return registry;
}
