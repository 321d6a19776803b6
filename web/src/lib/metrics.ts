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
