// Reads the Prometheus text format, as far as a status page shows it: histograms as count and mean, the rest as it is.

export interface Sample {
  name: string;
  labels: string;
  value: number;
  help: string;
  /** Counters grow for ever and are better read as rates; the page shows them as they are. */
  type: string;
}

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;

export function parseMetrics(text: string): Sample[] {
  const help = new Map<string, string>();
  const type = new Map<string, string>();
  const sums = new Map<string, number>();
  const out: Sample[] = [];
  for (const line of text.split("\n")) {
    const meta = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (meta) {
      (meta[1] === "HELP" ? help : type).set(meta[2]!, meta[3]!);
      continue;
    }
    const sample = LINE.exec(line);
    if (!sample || line.startsWith("#")) continue;
    const [, name, labels = "", raw] = sample as unknown as [string, string, string | undefined, string];
    const value = raw === "+Inf" ? Infinity : Number(raw);
    const family = name.replace(/_(bucket|sum|count|total)$/, "");
    const kind = type.get(name) ?? type.get(family) ?? "";
    if (kind === "histogram" || kind === "summary") {
      if (name.endsWith("_sum")) sums.set(family + labels, value);
      if (!name.endsWith("_count")) continue;
    }
    out.push({ name, labels, value, help: help.get(name) ?? help.get(family) ?? "", type: kind });
  }
  return out.map((sample) => {
    const family = sample.name.replace(/_count$/, "");
    const sum = sums.get(family + sample.labels);
    if (sum === undefined || !sample.value) return sample;
    return { ...sample, name: family, value: sum / sample.value, help: `${sample.help} (mean of ${sample.value})` };
  });
}

/** The value of one sample; with no labels given, of the first of that name. */
export function value(samples: Sample[], name: string, labels?: string): number | undefined {
  return samples.find((sample) => sample.name === name && (labels === undefined || sample.labels === labels))?.value;
}

/** Over all labels. */
export function sum(samples: Sample[], name: string): number {
  return samples.filter((sample) => sample.name === name).reduce((total, sample) => total + sample.value, 0);
}

export interface Route {
  route: string;
  answered: number;
  /** Status 4xx. */
  refused: number;
  /** Status 5xx. */
  failed: number;
}

/** The requests of each endpoint, the busiest first. */
export function byRoute(samples: Sample[]): Route[] {
  const routes = new Map<string, Route>();
  for (const { name, labels, value } of samples) {
    const [, route, status] = (name === "whit_requests_total" && /^route="(.*)",status="(\d+)"$/.exec(labels)) || [];
    if (!route || !status) continue;
    const row = routes.get(route) ?? { route, answered: 0, refused: 0, failed: 0 };
    row[status < "400" ? "answered" : status < "500" ? "refused" : "failed"] += value;
    routes.set(route, row);
  }
  const total = (row: Route) => row.answered + row.refused + row.failed;
  return [...routes.values()].sort((a, b) => total(b) - total(a) || (a.route < b.route ? -1 : 1));
}
