// Numbers and times as people read them.

export function bytes(n: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i += 1) n /= 1000;
  return `${i && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

export function ago(time: number, now = Date.now()): string {
  const seconds = Math.round((now - time) / 1000);
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 0) return `in ${span(-seconds)}`;
  return seconds < 60 ? "just now" : `${span(seconds)} ago`;
}

export function span(seconds: number): string {
  for (const [size, unit] of [
    [86_400, "day"],
    [3_600, "hour"],
    [60, "minute"],
  ] as const) {
    const n = Math.floor(seconds / size);
    if (n) return `${n} ${unit}${n > 1 ? "s" : ""}`;
  }
  return `${seconds} s`;
}

/** The heading under which a conversation stands. */
export function day(time: number, now = new Date()): string {
  const start = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const age = (start - time) / 86_400_000;
  if (age <= 0) return "Today";
  if (age <= 1) return "Yesterday";
  return age <= 7 ? "Last 7 days" : age <= 30 ? "Last 30 days" : "Older";
}

export function saveFile(name: string, content: string | Blob, type: string) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
