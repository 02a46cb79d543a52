"""The drawings of "How CMT and CvT work": python docs/tools/diagrams.py writes them to docs/images."""

from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).parents[1] / "images"
INK, PAPER, FRAME, FAINT = "#1f2430", "#fcfcfe", "#d7dae3", "#8a90a0"
FILL = {
    "data": ("#ffffff", "#8a90a0"),
    "conv": ("#fde6cf", "#d9772b"),
    "norm": ("#eceef4", "#8a90a0"),
    "attn": ("#dfe3fb", "#4453c4"),
    "mlp": ("#d8eedd", "#3c8d5a"),
    "head": ("#f6dcea", "#b03a78"),
}
TOKEN = "#c62f3b"


class Drawing:
    """Boxes, arrows and words, in pixels from the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.parts = (width, height), [f"<title>{escape(title)}</title>"]
        self.parts.append(
            f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="12" fill="{PAPER}" stroke="{FRAME}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 14,
        color: str = INK,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        for k, line in enumerate(words.split("\n")):
            self.parts.append(
                f'<text x="{x}" y="{y + k * size * 1.25:g}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}>'
                f"{escape(line)}</text>"
            )

    def box(self, x: float, y: float, width: float, height: float, words: str, kind: str, *, size: int = 14) -> None:
        fill, stroke = FILL[kind]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}" stroke-width="1.4"/>'
        )
        lines = words.count("\n") + 1
        self.text(x + width / 2, y + height / 2 + size * 0.36 - (lines - 1) * size * 0.625, words, size=size)

    def arrow(self, *points: tuple[float, float], color: str = INK, dashed: bool = False, head: bool = True) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        marker = f' marker-end="url(#{"red" if color == TOKEN else "ink"})"' if head else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dash}{marker}/>')

    def plus(self, x: float, y: float) -> None:
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="10" fill="#fff" stroke="{INK}" stroke-width="1.4"/>')
        self.parts.append(f'<path d="M{x - 5},{y} h10 M{x},{y - 5} v10" stroke="{INK}" stroke-width="1.6"/>')

    def dot(self, x: float, y: float, radius: float = 5, color: str = TOKEN) -> None:
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{color}"/>')

    def grid(self, x: float, y: float, side: float, cells: int, kind: str, *, depth: int = 0) -> None:
        """A map, with `depth` sheets behind it for its channels."""
        fill, stroke = FILL[kind]
        for sheet in range(depth, -1, -1):
            dx = sheet * 4
            self.parts.append(
                f'<rect x="{x + dx}" y="{y - dx}" width="{side}" height="{side}" '
                f'fill="{fill}" stroke="{stroke}" stroke-width="1.1"/>'
            )
        step = side / cells
        lines = "".join(f"M{x + k * step:g},{y} v{side} M{x},{y + k * step:g} h{side}" for k in range(1, cells))
        self.parts.append(f'<path d="{lines}" stroke="{stroke}" stroke-width="0.6" opacity="0.7"/>')

    def cell(self, x: float, y: float, side: float, color: str, opacity: float = 1.0) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="{color}" opacity="{opacity:g}"/>'
        )

    def save(self, name: str) -> None:
        heads = "".join(
            f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" '
            f'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M0,0 L10,5 L0,10 z" fill="{color}"/></marker>'
            for name, color in (("ink", INK), ("red", TOKEN))
        )
        width, height = self.size
        (OUT / f"{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"><defs>{heads}</defs>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def cvt_stages() -> None:
    d = Drawing(900, 270, "CvT-13: three stages")
    middle = 140
    d.grid(28, middle - 48, 96, 1, "data", depth=2)
    d.text(76, middle + 4, "picture")
    d.text(80, 232, "224 × 224 × 3", color=FAINT)
    stages = (
        (208, 80, 14, 2, "56 × 56 × 64", "conv 7×7 / 4", "1 block"),
        (418, 60, 7, 4, "28 × 28 × 192", "conv 3×3 / 2", "2 blocks"),
        (618, 44, 4, 7, "14 × 14 × 384", "conv 3×3 / 2", "10 blocks"),
    )
    left = 142
    for number, (x, side, cells, depth, shape, conv, blocks) in enumerate(stages, start=1):
        d.arrow((left, middle), (x - 8, middle))
        d.text((left + x - 8) / 2, middle - 10 if number > 1 else middle - 66, conv, size=12, color="#b35e1c")
        d.grid(x, middle - side / 2, side, cells, "attn", depth=depth)
        d.text(x + side / 2 + 6, 40, f"stage {number}", bold=True)
        d.text(x + side / 2 + 6, 212, blocks)
        d.text(x + side / 2 + 6, 232, shape, color=FAINT)
        left = x + side + depth * 4 + 8
    d.dot(640, 78)
    d.text(652, 82, "class token", size=12, color=TOKEN, anchor="start")
    d.arrow((left, middle), (744, middle), color=TOKEN)
    d.box(748, middle - 22, 76, 44, "norm", "norm")
    d.arrow((824, middle), (848, middle))
    d.text(868, middle - 28, "linear", size=12)
    d.box(848, middle - 22, 40, 44, "1000", "head", size=12)
    d.save("cvt-stages")


def cvt_block() -> None:
    d = Drawing(900, 330, "A block of CvT")
    y = 120
    d.text(24, y + 5, "x", bold=True)
    d.arrow((36, y), (62, y))
    d.box(62, y - 20, 62, 40, "Layer-\nNorm", "norm", size=12)
    d.arrow((124, y), (150, y), head=False)
    for k, (name, stride) in enumerate((("q", 1), ("k", 2), ("v", 2))):
        lane = 50 + k * 70
        d.arrow((150, y), (150, lane), (172, lane))
        d.box(172, lane - 20, 138, 40, f"depthwise 3×3 / {stride}\nBatchNorm", "conv", size=12)
        d.arrow((310, lane), (334, lane))
        d.box(334, lane - 20, 60, 40, "linear", "attn", size=12)
        d.arrow((394, lane), (436, lane))
        d.text(414, lane - 8, name, bold=True)
    d.box(438, 32, 150, 176, "softmax( q kᵀ · C⁻½ ) v", "attn", size=12)
    d.text(513, 150, "scale: the full width C,\nnot the head's", size=11, color=FAINT)
    d.arrow((588, y), (604, y))
    d.box(604, y - 20, 56, 40, "linear", "attn", size=12)
    d.arrow((660, y), (678, y))
    d.plus(689, y)
    d.arrow((48, y), (48, 18), (689, 18), (689, y - 11))
    d.arrow((700, y), (716, y))
    d.box(716, y - 20, 58, 40, "Layer-\nNorm", "norm", size=12)
    d.arrow((774, y), (788, y))
    d.box(788, y - 38, 62, 76, "linear 4C\nQuick-\nGELU\nlinear C", "mlp", size=11)
    d.arrow((850, y), (860, y))
    d.plus(871, y)
    d.arrow((707, y), (707, 50), (871, 50), (871, y - 11))
    d.arrow((136, y), (136, 262), (364, 262), color=TOKEN, dashed=True, head=False)
    d.dot(136, 262)
    d.arrow((364, 262), (364, 212), color=TOKEN, dashed=True)
    d.text(
        376,
        258,
        "the class token (last stage only) goes around the convolutions,",
        size=12,
        color=TOKEN,
        anchor="start",
    )
    d.text(376, 274, "and through the linear layers of q, k and v", size=12, color=TOKEN, anchor="start")
    d.text(
        24,
        310,
        "Queries on H × W, keys and values on ⌈H/2⌉ × ⌈W/2⌉: a quarter of the attention.",
        size=12,
        color=FAINT,
        anchor="start",
    )
    d.save("cvt-block")


def cmt_stages() -> None:
    d = Drawing(900, 270, "CMT-S: stem and four stages")
    middle = 140
    d.grid(24, middle - 46, 92, 1, "data", depth=2)
    d.text(70, middle + 4, "picture")
    d.text(72, 232, "224 × 224 × 3", size=13, color=FAINT)
    d.arrow((130, middle), (146, middle))
    d.box(146, middle - 52, 80, 104, "stem\nconv 3×3 / 2\nconv 3×3\nconv 3×3", "conv", size=11)
    d.text(192, 232, "112 × 112 × 32", size=13, color=FAINT)
    stages = (
        (280, 76, 14, 1, "56 × 56 × 64", "3 blocks", "÷ 8"),
        (414, 58, 7, 2, "28 × 28 × 128", "3 blocks", "÷ 4"),
        (538, 44, 4, 4, "14 × 14 × 256", "16 blocks", "÷ 2"),
        (652, 32, 2, 6, "7 × 7 × 512", "3 blocks", "÷ 1"),
    )
    left = 226
    for number, (x, side, cells, depth, shape, blocks, keys) in enumerate(stages, start=1):
        d.arrow((left, middle), (x - 6, middle))
        d.text((left + x - 6) / 2, middle - 10, "2×2 / 2", size=11, color="#b35e1c")
        d.grid(x, middle - side / 2, side, cells, "attn", depth=depth)
        center = x + side / 2 + 6
        d.text(center, 36, f"stage {number}", bold=True)
        d.text(center, 54, f"keys {keys}", size=12, color="#4453c4")
        d.text(center, 212, blocks)
        d.text(center, 232, shape, size=13, color=FAINT)
        left = x + side + depth * 4 + 6
    d.arrow((left, middle), (746, middle))
    d.box(746, middle - 44, 84, 88, "1×1 to 1280\nBatchNorm\nSiLU\naverage", "mlp", size=12)
    d.arrow((830, middle), (846, middle))
    d.text(866, middle - 28, "linear", size=12)
    d.box(846, middle - 22, 42, 44, "1000", "head", size=12)
    d.save("cmt-stages")


def cmt_block() -> None:
    d = Drawing(980, 330, "A block of CMT")
    y = 130
    for x, width, name in (
        (40, 150, "local perception"),
        (200, 352, "lightweight attention"),
        (562, 402, "inverted residual feed-forward"),
    ):
        d.parts.append(
            f'<rect x="{x}" y="30" width="{width}" height="232" rx="10" fill="none" stroke="{FRAME}" stroke-dasharray="4 4"/>'
        )
        d.text(x + width / 2, 22, name, size=13, bold=True)
    d.text(18, y + 5, "x", bold=True)
    d.arrow((28, y), (60, y))
    d.box(60, y - 20, 82, 40, "depthwise\n3×3", "conv", size=12)
    d.arrow((142, y), (158, y))
    d.plus(169, y)
    d.arrow((50, y), (50, 56), (169, 56), (169, y - 11))
    d.arrow((180, y), (212, y))
    d.box(212, y - 20, 54, 40, "Layer-\nNorm", "norm", size=12)
    d.arrow((266, y), (278, y), (278, 88), (400, 88), head=False)
    d.box(398, 68, 36, 40, "linear", "attn", size=11)
    d.arrow((278, y), (278, 172), (290, 172))
    d.box(290, 152, 88, 40, "conv k = s\nBatchNorm", "conv", size=12)
    d.arrow((378, 172), (398, 172))
    d.box(398, 152, 36, 40, "linear", "attn", size=11)
    d.text(334, 208, "s = 8, 4, 2, 1", size=11, color=FAINT)
    d.arrow((434, 88), (450, 88), (450, y - 14), (458, y - 14))
    d.text(446, 80, "q", bold=True, size=12)
    d.arrow((434, 172), (450, 172), (450, y + 14), (458, y + 14))
    d.text(462, 190, "k, v", bold=True, size=12)
    d.box(458, y - 30, 58, 60, "softmax\n+ bias\nlinear", "attn", size=12)
    d.box(446, 214, 82, 36, "bias table\nh × N × M", "attn", size=11)
    d.arrow((487, 214), (487, 162))
    d.arrow((516, y), (524, y))
    d.plus(535, y)
    d.arrow((194, y), (194, 56), (535, 56), (535, y - 11))
    d.arrow((546, y), (574, y))
    d.box(574, y - 20, 50, 40, "Layer-\nNorm", "norm", size=12)
    d.arrow((624, y), (638, y))
    d.box(638, y - 30, 74, 60, "1×1 to 4C\nGELU\nBatchNorm", "mlp", size=11)
    d.arrow((712, y), (734, y))
    d.box(734, y - 20, 70, 40, "depthwise\n3×3", "conv", size=11)
    d.arrow((804, y), (812, y))
    d.plus(823, y)
    d.arrow((722, y), (722, 190), (823, 190), (823, y + 11))
    d.arrow((834, y), (844, y))
    d.box(844, y - 20, 38, 40, "GELU\nBN", "norm", size=11)
    d.arrow((882, y), (892, y))
    d.box(892, y - 20, 36, 40, "1×1\nBN", "mlp", size=11)
    d.arrow((928, y), (936, y))
    d.plus(947, y)
    d.arrow((556, y), (556, 56), (947, 56), (947, y - 11))
    d.text(
        24,
        292,
        "Queries on H × W; keys and values on H/s × W/s. A position bias is learned: one table per stage, shared by its blocks.",
        size=12,
        color=FAINT,
        anchor="start",
    )
    d.text(24, 310, "There is no class token: the head averages the last map.", size=12, color=FAINT, anchor="start")
    d.save("cmt-block")


def grids() -> None:
    d = Drawing(900, 300, "Queries read a coarser grid of keys")
    side, cells = 200, 8
    d.grid(60, 56, side, cells, "attn")
    step = side / cells
    d.cell(60 + 5 * step, 56 + 2 * step, step, "#d9772b")
    d.text(160, 40, "queries: every place of the map", bold=True, size=13)
    x, key_side, key_cells = 400, 200, 4
    d.grid(x, 56, key_side, key_cells, "conv")
    key = key_side / key_cells
    shares = ((0.02, 0.03, 0.10, 0.06), (0.03, 0.08, 0.32, 0.14), (0.02, 0.05, 0.07, 0.04), (0.01, 0.01, 0.01, 0.01))
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            d.cell(x + column * key + 1, 56 + row * key + 1, key - 2, "#d9772b", min(1, share * 2.6))
            d.text(x + column * key + key / 2, 56 + row * key + key / 2 + 4, f"{share:.2f}", size=11)
    d.text(500, 40, "keys: the same map, coarser", bold=True, size=13)
    d.arrow((60 + 6 * step + 2, 56 + 2.5 * step), (x - 8, 56 + 2.5 * step), color=INK)
    d.text(330, 56 + 2.5 * step - 10, "reads", size=12)
    d.text(622, 90, "One row of the attention matrix:\nN × M, not N × N. It sums to one.", size=13, anchor="start")
    d.text(622, 150, "CvT: M = ⌈H/2⌉ · ⌈W/2⌉", size=13, anchor="start")
    d.text(622, 172, "CMT: M = (H/s) · (W/s), s = 8, 4, 2, 1", size=13, anchor="start")
    d.text(
        622,
        210,
        "So a map of attention has the keys' grid,\nand never sqrt(N) to a side.",
        size=12,
        color=FAINT,
        anchor="start",
    )
    d.text(
        24,
        284,
        "The shares are made up for the drawing; hybridvit explain draws real ones.",
        size=12,
        color=FAINT,
        anchor="start",
    )
    d.save("grids")


def residuals() -> None:
    d = Drawing(900, 220, "The middle of the feed-forward network, twice")
    for x, name, inside in ((30, "the authors, kecam, MindCV", True), (470, "FlyEgle", False)):
        y = 120
        d.text(x + 190, 34, name, bold=True)
        d.text(x + 190, 54, "BN( GELU( dw(x) + x ) )" if inside else "x + BN( GELU( dw(x) ) )", size=13, color=FAINT)
        d.text(x + 6, y + 5, "x", bold=True)
        d.arrow((x + 16, y), (x + 44, y))
        d.box(x + 44, y - 22, 90, 44, "depthwise\n3×3", "conv", size=13)
        spots = (x + 165, x + 196, x + 276) if inside else (x + 340, x + 154, x + 234)
        plus, gelu, norm = spots
        d.box(gelu, y - 22, 60, 44, "GELU", "mlp", size=13)
        d.box(norm, y - 22, 60, 44, "BN", "norm", size=13)
        d.plus(plus, y)
        d.arrow((x + 30, y), (x + 30, 180), (plus, 180), (plus, y + 11))
        ends = (
            ((x + 134, plus - 11), (plus + 11, gelu), (gelu + 60, norm), (norm + 60, x + 372))
            if inside
            else ((x + 134, gelu), (gelu + 60, norm), (norm + 60, plus - 11), (plus + 11, x + 372))
        )
        for start, end in ends:
            d.arrow((start, y), (end, y))
    d.save("residuals")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for draw in (cvt_stages, cvt_block, cmt_stages, cmt_block, grids, residuals):
        draw()
