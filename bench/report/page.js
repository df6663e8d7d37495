// SPDX-License-Identifier: MIT
// Draws the figures of the report with uPlot. Each <figure> holds its figure as JSON (see figure.h)
// and an empty .plot; the table is in the page already. A figure that cannot be drawn leaves the
// table open and a line that says so. With #selfcheck in the address, what was drawn is counted
// into attributes of <html>, and told to the page around, if there is one: that is for the tests.
(function () {
    "use strict";

    const ROW = 24; // height of a line of bars or dots
    const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
    const LABELLED_WIDTH = 560; // narrower charts have no room for labels at the ends of lines
    const PRINT_WIDTH = 640;
    const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
    const charts = [];
    const failures = window.reportFailures; // begun in the head, so that none is missed
    let printing = false;

    // ---- colours ------------------------------------------------------------------------------

    const others = new Map(); // names without a colour of their own, in order of appearance

    function variable(name) {
        return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    }

    function colorOf(name) {
        const own = /^[a-z0-9-]+$/.test(name) ? variable("--c-" + name) : "";
        if (own !== "") return own;
        if (!others.has(name)) others.set(name, others.size % 8);
        return variable("--c-other-" + others.get(name));
    }

    function theme() {
        return { text: variable("--text"), soft: variable("--soft"), grid: variable("--grid"),
                 card: variable("--card"), line: variable("--line") };
    }

    // ---- numbers ------------------------------------------------------------------------------

    function round(value, digits) {
        return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 6 });
    }

    const UNITS = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

    // Short: "53.3k". What unit is used depends on the largest number beside it; thousands from
    // 10,000 on.
    function tick(value, largest) {
        for (const [size, letter] of UNITS)
            if (largest >= (size === 1e3 ? 1e4 : size))
                return value === 0 ? "0" : round(value / size, 3) + letter;
        return round(value, 4);
    }

    // All of an axis in one unit; on a log scale each in its own, and powers of ten only.
    function ticks(values, log) {
        const largest = Math.max(...values.map(Math.abs));
        return values.map((value) => value === null || (log && !isPower(value)) ? null
            : log && value === 1000 ? "1k" : tick(value, log ? value : largest));
    }

    // Under the cursor: precise.
    function precise(value) {
        if (value == null) return "–";
        return Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en-US") : round(value, 3);
    }

    const measure = document.createElement("canvas").getContext("2d");

    // Cut to a width in pixels.
    function fit(words, width) {
        while (words.length > 4 && textWidth(words) > width) words = words.slice(0, -2).trimEnd() + "…";
        return words;
    }

    function textWidth(text) {
        measure.font = FONT;
        return measure.measureText(text).width;
    }

    // ---- drawing on uPlot's canvas ------------------------------------------------------------

    // uPlot remembers what it set on the canvas last, so it must find that again.
    function onCanvas(u, work) {
        u.ctx.save();
        work();
        u.ctx.restore();
    }

    function scaledFont(bold) {
        return (bold ? "600 " : "") + FONT.replace("12px", 12 * uPlot.pxRatio + "px");
    }

    function text(u, words, x, y, color, align, bold) {
        u.ctx.font = scaledFont(bold);
        u.ctx.fillStyle = color;
        u.ctx.textAlign = align;
        u.ctx.textBaseline = "middle";
        u.ctx.fillText(words, x, y);
    }

    function line(u, x0, y0, x1, y1, color, width, dash) {
        const ctx = u.ctx;
        ctx.strokeStyle = color;
        ctx.lineWidth = width * uPlot.pxRatio;
        ctx.setLineDash((dash || []).map((length) => length * uPlot.pxRatio));
        ctx.beginPath();
        ctx.moveTo(x0, y0);
        ctx.lineTo(x1, y1);
        ctx.stroke();
        ctx.setLineDash([]);
    }

    // A range with a stroke across each end; (x, y) runs along the value's axis.
    function whisker(u, low, high, place, vertical, color) {
        const cap = 4 * uPlot.pxRatio;
        const ends = [low, high];
        if (vertical) line(u, place, low, place, high, color, 1.25);
        else line(u, low, place, high, place, color, 1.25);
        for (const end of ends) {
            if (vertical) line(u, place - cap, end, place + cap, end, color, 1.25);
            else line(u, end, place - cap, end, place + cap, color, 1.25);
        }
    }

    // Shapes tell percentiles apart, so that colour is free for engines.
    const SHAPES = {
        circle: (ctx, x, y, r) => ctx.arc(x, y, r, 0, 2 * Math.PI),
        square: (ctx, x, y, r) => ctx.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8),
        triangle: (ctx, x, y, r) => {
            ctx.moveTo(x, y - r * 1.15);
            ctx.lineTo(x + r * 1.1, y + r * 0.85);
            ctx.lineTo(x - r * 1.1, y + r * 0.85);
            ctx.closePath();
        },
        bar: (ctx, x, y, r) => ctx.rect(x - r * 0.35, y - r * 1.4, r * 0.7, r * 2.8),
    };
    const SHAPE_ORDER = ["circle", "square", "triangle", "bar"];

    // ---- bars and dots: a line for each row ----------------------------------------------------

    // The height in the middle of row i, in pixels of the canvas.
    function rowPlace(u, i) {
        return u.bbox.top + ((i + 0.5) / u.data[0].length) * u.bbox.height;
    }

    function drawBars(u, figure, colors) {
        const px = uPlot.pxRatio;
        const zero = u.valToPos(0, "y", true);
        figure.rows.forEach((row, i) => {
            const y = rowPlace(u, i);
            if (row.heading !== undefined || row.value === null) return;
            const end = u.valToPos(row.value, "y", true);
            u.ctx.fillStyle = colorOf(row.color);
            u.ctx.fillRect(zero, y - 7 * px, Math.max(end - zero, px), 14 * px);
            if (row.low !== null && row.high !== null && row.high > row.low)
                whisker(u, u.valToPos(row.low, "y", true), u.valToPos(row.high, "y", true), y, false,
                        colors.text);
        });
    }

    function drawDots(u, figure, colors) {
        const px = uPlot.pxRatio;
        figure.rows.forEach((row, i) => {
            if (row.heading !== undefined) return;
            const y = rowPlace(u, i), color = colorOf(row.color);
            const places = row.values.map((value) => value === null ? null : u.valToPos(value, "y", true));
            const known = places.filter((place) => place !== null);
            if (known.length === 0) return;
            line(u, Math.min(...known), y, Math.max(...known), y, color, 2);
            places.forEach((place, p) => {
                if (place === null) return;
                u.ctx.beginPath();
                SHAPES[SHAPE_ORDER[p % 4]](u.ctx, place, y, 5 * px);
                u.ctx.fillStyle = color;
                u.ctx.fill();
                u.ctx.strokeStyle = colors.card;
                u.ctx.lineWidth = 1.5 * px;
                u.ctx.stroke();
            });
        });
    }

    // "53,290 ±3 %", or where there is little room "53.3k ±3 %".
    function rowText(row, narrow) {
        if (!narrow || row.value === null) return row.text;
        return tick(row.value, row.value) + (/ ±.*$/.exec(row.text) || [""])[0];
    }

    // Names on the left, values behind the bars; with a mark, in a column.
    function drawLabels(u, figure, colors, left, narrow) {
        const px = uPlot.pxRatio;
        figure.rows.forEach((row, i) => {
            const y = rowPlace(u, i);
            if (row.heading !== undefined) {
                text(u, row.heading, 2 * px, y + 3 * px, colors.soft, "left", true);
                return;
            }
            text(u, fit(row.label, left - 10), u.bbox.left - 8 * px, y, colors.text, "right", false);
            if (row.text === undefined) return;
            const figures = rowText(row, narrow);
            if (figure.mark) { // which the words would lie on
                text(u, figures, u.bbox.left + u.bbox.width + 8 * px, y, colors.text, "left", false);
                return;
            }
            const end = row.value === null ? u.valToPos(0, "y", true)
                : u.valToPos(Math.max(row.value, row.high || 0), "y", true);
            text(u, figures, end + 8 * px, y, row.value === null ? colors.soft : colors.text, "left", false);
        });
    }

    function drawMark(u, figure, colors) {
        if (!figure.mark || figure.mark.value === null) return;
        const x = u.valToPos(figure.mark.value, "y", true);
        line(u, x, u.bbox.top, x, u.bbox.top + u.bbox.height, colors.text, 1.25, [4, 3]);
        text(u, figure.mark.label, x - 4 * uPlot.pxRatio, u.bbox.top - 7 * uPlot.pxRatio, colors.soft,
             "right", false);
    }

    function valueRange(figure) {
        const values = [];
        for (const row of figure.rows) {
            if (row.heading !== undefined) continue;
            for (const value of row.values || [row.value, row.high])
                if (value !== null && value !== undefined) values.push(value);
        }
        if (figure.mark && figure.mark.value !== null) values.push(figure.mark.value);
        if (!figure.log) return [0, Math.max(...values, Number.MIN_VALUE) * 1.03];
        return [10 ** Math.floor(Math.log10(Math.min(...values) * 0.999)),
                10 ** Math.ceil(Math.log10(Math.max(...values) * 1.001))];
    }

    function rowsOptions(figure, width, colors) {
        const names = figure.rows.filter((row) => row.heading === undefined);
        const left = Math.min(Math.max(...names.map((row) => textWidth(row.label))) + 14, width * 0.42);
        const narrow = width < LABELLED_WIDTH;
        const right = figure.kind === "bars"
            ? Math.max(...names.map((row) => textWidth(rowText(row, narrow)))) + 14 : 14;
        return {
            width: width,
            height: figure.rows.length * ROW + 58 + (figure.mark ? 14 : 0),
            padding: [figure.mark ? 16 : 4, right, 0, left],
            cursor: { show: false },
            legend: { show: false },
            scales: {
                x: { time: false, ori: 1, dir: -1, range: () => [-0.5, figure.rows.length - 0.5] },
                y: { ori: 0, dir: 1, distr: figure.log ? 3 : 1, range: () => valueRange(figure) },
            },
            axes: [
                { scale: "x", side: 3, show: false },
                axis("y", 2, figure.label, colors, (u, values) => ticks(values, figure.log),
                     figure.log ? 1 : 50),
            ],
            series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
            hooks: {
                draw: [(u) => onCanvas(u, () => {
                    (figure.kind === "bars" ? drawBars : drawDots)(u, figure, colors);
                    drawMark(u, figure, colors);
                    drawLabels(u, figure, colors, left, narrow);
                })],
            },
        };
    }

    function rowsData(figure) {
        return [figure.rows.map((row, i) => i),
                figure.rows.map((row) => row.values ? row.values[0] : row.value === undefined ? null : row.value)];
    }

    // ---- lines ----------------------------------------------------------------------------------

    function isPower(value) {
        const power = Math.log10(value);
        return Math.abs(power - Math.round(power)) < 1e-9;
    }

    function axis(scale, side, label, colors, values, space) {
        return {
            scale: scale, side: side, label: label, values: values, space: space,
            filter: (u, splits) => splits, // which places have a number is said by values alone
            font: FONT, labelFont: FONT, stroke: colors.soft, labelSize: 18, labelGap: 2, gap: 4,
            size: side === 3 ? 52 : 30,
            grid: { stroke: colors.grid, width: 1 },
            ticks: { stroke: colors.grid, width: 1, size: 4 },
        };
    }

    // Names at the ends of lines, moved apart where they would lie on each other.
    function drawEnds(u, figure, room) {
        const px = uPlot.pxRatio, ends = [];
        figure.series.forEach((series, s) => {
            let last = series.values.length - 1;
            while (last >= 0 && series.values[last] === null) last--;
            if (last < 0 || !u.series[s + 1].show) return;
            ends.push({ label: fit(series.label, room), color: colorOf(series.color),
                        x: u.valToPos(figure.x.values[last], "x", true),
                        y: u.valToPos(series.values[last], "y", true) });
        });
        ends.sort((a, b) => a.y - b.y);
        const step = 14 * px, bottom = u.bbox.top + u.bbox.height;
        ends.forEach((end, i) => { end.to = i > 0 ? Math.max(end.y, ends[i - 1].to + step) : end.y; });
        for (let i = ends.length - 1, limit = bottom; i >= 0; i--, limit -= step)
            ends[i].to = Math.min(ends[i].to, limit);
        const x = u.bbox.left + u.bbox.width;
        for (const end of ends) {
            line(u, end.x + 5 * px, end.y, x + 8 * px, end.to, end.color, 0.75);
            text(u, end.label, x + 11 * px, end.to, end.color, "left", false);
        }
    }

    function drawWhiskers(u, figure) {
        figure.series.forEach((series, s) => {
            if (!series.low || !u.series[s + 1].show) return;
            series.values.forEach((value, i) => {
                if (value === null || series.low[i] === null || series.high[i] <= series.low[i]) return;
                whisker(u, u.valToPos(series.low[i], "y", true), u.valToPos(series.high[i], "y", true),
                        u.valToPos(figure.x.values[i], "x", true), true, colorOf(series.color));
            });
        });
    }

    function linesRange(figure) {
        const values = figure.series.flatMap((series) => series.values.concat(series.high || []))
            .filter((value) => value !== null);
        if (!figure.log) return [0, Math.max(...values, Number.MIN_VALUE) * 1.05];
        return [10 ** Math.floor(Math.log10(Math.min(...values) * 0.999)),
                10 ** Math.ceil(Math.log10(Math.max(...values) * 1.001))];
    }

    // Measured places only, and of those what has room.
    function splits(figure, width) {
        const xs = figure.x.values, kept = [];
        const first = Math.log(xs[0]), all = Math.log(xs[xs.length - 1]) - first;
        let last = -Infinity;
        for (const x of xs) {
            const place = ((Math.log(x) - first) / all) * width;
            if (place - last >= textWidth(round(x, 6)) + 12) {
                kept.push(x);
                last = place;
            }
        }
        return kept;
    }

    function xRange(figure) {
        const xs = figure.x.values, first = xs[0], last = xs[xs.length - 1];
        if (!figure.x.log) return [Math.min(0, first), last];
        const margin = (last / first) ** 0.04;
        return [first / margin, last * margin];
    }

    function linesOptions(figure, width, colors, output) {
        const labelled = width >= LABELLED_WIDTH && figure.series.length <= 16;
        const longest = Math.max(...figure.series.map((series) => textWidth(series.label)));
        const right = labelled ? Math.min(longest, width * 0.3) + 20 : 18;
        const few = figure.x.values.length <= 40;
        const xAxis = axis("x", 2, figure.x.label, colors, (u, values) =>
            values.map((value) => value < 1e6 ? round(value, 6) : tick(value, value)), 50);
        if (figure.x.log) xAxis.splits = () => splits(figure, width - right - 60);
        return {
            width: width,
            height: Math.max(230, Math.min(380, Math.round(width * 0.5))),
            padding: [10, right, 0, 0],
            legend: { show: false },
            cursor: { drag: { x: false, y: false }, points: { size: 7 } },
            scales: {
                x: { time: false, distr: figure.x.log ? 3 : 1, log: 2, range: () => xRange(figure) },
                y: { distr: figure.log ? 3 : 1, range: () => linesRange(figure) },
            },
            axes: [xAxis, axis("y", 3, figure.label, colors, (u, values) => ticks(values, figure.log),
                                figure.log ? 1 : 40)],
            series: [{}].concat(figure.series.map((series) => ({
                label: series.label, scale: "y", stroke: colorOf(series.color), width: 2,
                dash: DASHES[series.dash % DASHES.length], spanGaps: true,
                points: { show: few, size: 7, fill: colorOf(series.color) },
            }))),
            hooks: {
                draw: [(u) => onCanvas(u, () => {
                    drawWhiskers(u, figure);
                    if (labelled) drawEnds(u, figure, right - 20);
                })],
                setCursor: [(u) => output(u.cursor.idx)],
            },
        };
    }

    // ---- legends --------------------------------------------------------------------------------

    function sample(color, dash) {
        const ns = "http://www.w3.org/2000/svg";
        const svg = document.createElementNS(ns, "svg");
        const stroke = document.createElementNS(ns, "line");
        const set = (element, values) => Object.entries(values).forEach(([k, v]) => element.setAttribute(k, v));
        set(svg, { width: 26, height: 10, "aria-hidden": "true" });
        set(stroke, { x1: 0, y1: 5, x2: 26, y2: 5, stroke: color, "stroke-width": 3,
                      "stroke-dasharray": DASHES[dash % DASHES.length].join(" ") });
        svg.append(stroke);
        return svg;
    }

    // A button for each line, which hides it; behind it what the cursor is over.
    function linesLegend(chart) {
        const list = document.createElement("ul");
        list.className = "legend";
        chart.outputs = chart.figure.series.map((series, s) => {
            const item = document.createElement("li");
            const button = document.createElement("button");
            const output = document.createElement("output");
            button.type = "button";
            button.setAttribute("aria-pressed", "true");
            button.append(sample(colorOf(series.color), series.dash), series.label);
            button.addEventListener("click", () => {
                const show = !chart.plot.series[s + 1].show;
                button.setAttribute("aria-pressed", String(show));
                chart.plot.setSeries(s + 1, { show: show });
            });
            item.append(button, " ", output);
            list.append(item);
            return output;
        });
        return list;
    }

    function dotsLegend(chart) {
        const list = document.createElement("ul");
        list.className = "legend";
        chart.figure.points.forEach((point, p) => {
            const item = document.createElement("li");
            const canvas = document.createElement("canvas");
            const ratio = window.devicePixelRatio || 1;
            const ctx = canvas.getContext("2d");
            item.className = "key";
            canvas.width = canvas.height = 16 * ratio;
            canvas.style.width = canvas.style.height = "16px";
            ctx.scale(ratio, ratio);
            ctx.fillStyle = variable("--soft");
            ctx.beginPath();
            SHAPES[SHAPE_ORDER[p % 4]](ctx, 8, 8, 5);
            ctx.fill();
            item.append(canvas, point);
            list.append(item);
        });
        return list;
    }

    // ---- life of a chart ------------------------------------------------------------------------

    function widthOf(chart) {
        return printing ? PRINT_WIDTH : Math.max(chart.place.clientWidth, 200);
    }

    function draw(chart) {
        const figure = chart.figure, colors = theme(), width = widthOf(chart);
        const lines = figure.kind === "lines";
        const output = (index) => chart.outputs.forEach((element, s) => {
            element.textContent = index == null ? "" : precise(figure.series[s].values[index]);
        });
        if (chart.plot) chart.plot.destroy();
        chart.place.replaceChildren();
        chart.outputs = [];
        chart.width = width;
        chart.plot = lines
            ? new uPlot(linesOptions(figure, width, colors, output),
                        [figure.x.values].concat(figure.series.map((series) => series.values)), chart.place)
            : new uPlot(rowsOptions(figure, width, colors), rowsData(figure), chart.place);
        if (lines) chart.place.append(linesLegend(chart));
        if (figure.kind === "dots") chart.place.append(dotsLegend(chart));
    }

    function begin(element) {
        const chart = { place: element.querySelector(".plot"), plot: null, outputs: [],
                        figure: JSON.parse(element.querySelector('script[type="application/json"]').textContent) };
        const canvasText = element.querySelector("h3").textContent + ". The same is in the table below.";
        chart.place.setAttribute("role", chart.figure.kind === "lines" ? "group" : "img");
        chart.place.setAttribute("aria-label", canvasText);
        draw(chart);
        element.querySelector("details").open = false;
        charts.push(chart);
    }

    function redraw() {
        charts.forEach(draw);
    }

    function print(begins) {
        printing = begins;
        document.documentElement.classList.toggle("printing", begins);
        redraw();
    }

    document.querySelectorAll("figure").forEach((element) => {
        try {
            begin(element);
        } catch (error) {
            failures.push(String(error));
            const note = document.createElement("p");
            note.className = "missing";
            note.textContent = "This chart could not be drawn (" + error + "); its table has the figures.";
            element.querySelector(".plot").replaceChildren(note);
        }
    });

    // Width only: the height follows from it, and following the height would never end.
    const observer = new ResizeObserver(() => {
        if (printing) return;
        charts.forEach((chart) => {
            if (chart.place.clientWidth > 0 && widthOf(chart) !== chart.width) draw(chart);
        });
    });
    charts.forEach((chart) => observer.observe(chart.place));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    // Before the page is laid out for paper: what a media query tells comes when it has been.
    window.addEventListener("beforeprint", () => print(true));
    window.addEventListener("afterprint", () => print(false));

    // ---- the tests' view --------------------------------------------------------------------------

    function isBlank(canvas) {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < pixels.length; i += 4)
            if (pixels[i + 3] > 0) seen.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
        return seen.size < 3; // text, grid and one colour at least
    }

    function selfcheck() {
        const data = document.documentElement.dataset;
        const canvases = Array.from(document.querySelectorAll(".uplot canvas"));
        data.charts = canvases.length;
        data.blank = canvases.filter(isBlank).length;
        data.figures = document.querySelectorAll("figure").length;
        data.requests = performance.getEntriesByType("resource").length;
        data.overflow = Math.max(0, document.documentElement.scrollWidth - window.innerWidth);
        data.dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
        data.ink = theme().text;
        data.width = window.innerWidth;
        data.failures = failures.join("; ");
        data.errors = failures.length;
        if (window.parent !== window) window.parent.postMessage(Object.assign({}, data), "*");
    }

    if (location.hash === "#selfcheck")
        window.addEventListener("load", () => setTimeout(selfcheck, 300));
})();
