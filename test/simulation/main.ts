import { simulate } from './simulation.js';

const seed = Number(process.argv[2] ?? 1);
const count = Number(process.argv[3] ?? 1);
for (let at = 0; at < count; at += 1) {
  const began = performance.now();
  const report = await simulate(seed + at, { isTold: process.argv[4] === 't' });
  const real = (performance.now() - began) / 1000;
  console.log(
    report.seed,
    report.plan.size,
    [...report.plan.faults].length,
    report.traceHash,
    'sim s',
    (report.simulatedUs / 1e6).toFixed(1),
    'x',
    (report.simulatedUs / 1e6 / real).toFixed(0),
    'ev/s',
    (report.events / real).toFixed(0),
    'entries',
    report.entries,
    'calls',
    report.calls,
    report.violation?.message ?? 'ok',
  );
  if (process.argv[4] === 't') console.log(report.lines.join('\n'));
}
