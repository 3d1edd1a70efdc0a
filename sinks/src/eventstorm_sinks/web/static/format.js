// Numbers, times and documents as text for people.

const PREFIXES = ["", "k", "M", "G", "T", "P"];

function scaled(value, unit, digits = 3) {
  let power = 0;
  while (Math.abs(value) >= 999.5 && power < PREFIXES.length - 1) {
    value /= 1000;
    power += 1;
  }
  const text = value === 0 ? "0" : Number(value.toPrecision(digits)).toString();
  const name = PREFIXES[power] + unit;
  return name ? `${text} ${name}` : text;
}

export function quantity(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (unit === "ratio") return `${(value * 100).toFixed(value < 0.0995 ? 1 : 0)} %`;
  if (unit === "bytes") return scaled(value, "B");
  if (unit === "bytes/s") return scaled(value, "B/s");
  if (unit === "events/s") return scaled(value, "/s");
  return value >= 1000 ? scaled(value, "") : value.toFixed(2);
}

export function axisQuantity(value, unit) {
  if (unit === "ratio") return `${Math.round(value * 100)} %`;
  if (unit === "bytes/s" || unit === "bytes") return scaled(value, "B");
  return scaled(value, "");
}

export const count = (value) => value.toLocaleString("en");

const two = (number) => String(number).padStart(2, "0");

export function clockTime(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return "–";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export function fullTime(ms) {
  const at = new Date(ms);
  return Number.isNaN(at.getTime()) ? `${ms} ms` : at.toISOString();
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

export function axisTime(seconds, spanS) {
  const at = new Date(seconds * 1000);
  if (spanS > 2 * 86400) return `${DAYS[at.getDay()]} ${at.getDate()}`;
  const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return spanS <= 300 && at.getSeconds() ? `${minutes}:${two(at.getSeconds())}` : minutes;
}

// Indents JSON as text: parsing it would round integers beyond 2^53.
export function indented(json) {
  let depth = 0;
  let out = "";
  let opened = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/gs)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    // After an opening bracket comes a new line, but not in {} and [].
    if (opened !== closes) out += line();
    opened = token === "{" || token === "[";
    if (opened) depth += 1;
    out += token === ":" ? ": " : token;
    if (token === ",") out += line();
  }
  return out;
}
