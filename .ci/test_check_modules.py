"""What check_modules.py takes for an import: python3 -B -m unittest discover --quiet .ci"""

import tempfile
import unittest
from pathlib import Path

import check_modules


def graph(files):
    with tempfile.TemporaryDirectory() as directory:
        src = Path(directory)
        for name, text in files.items():
            (src / name).parent.mkdir(parents=True, exist_ok=True)
            (src / name).write_text(text)
        found = check_modules.imports(src)
        rings = [sorted(str(file.relative_to(src)) for file in ring) for ring in check_modules.circles(found)]
        return {str(f.relative_to(src)): sorted(str(t.relative_to(src)) for t in to) for f, to in found.items()}, rings


class Imports(unittest.TestCase):
    def test_a_child_that_names_its_parent_makes_a_circle_if_the_parent_names_it(self):
        found, rings = graph({"lib.rs": "mod a;\nuse a::X;\npub struct Y;", "a.rs": "use super::Y;\npub struct X;"})
        self.assertEqual(found, {"lib.rs": ["a.rs"], "a.rs": ["lib.rs"]})
        self.assertEqual(rings, [["a.rs", "lib.rs"]])

    def test_declaring_a_module_imports_nothing(self):
        found, rings = graph({"lib.rs": "mod a;\npub struct Y;", "a.rs": "use crate::Y;"})
        self.assertEqual((found["lib.rs"], rings), ([], []))

    def test_lists_paths_and_round_about_circles_are_seen(self):
        found, rings = graph(
            {
                "a.rs": "use crate::{b::{B, C as D}, other::E};",
                "b.rs": "fn f() { crate::c::g(); }",
                "c/d.rs": "use super::super::a::A;",
                "c.rs": "pub mod d;\nfn g() { d::h(); }",
            }
        )
        self.assertEqual(found["a.rs"], ["b.rs"])
        self.assertEqual(rings, [["a.rs", "b.rs", "c.rs", "c/d.rs"]])

    def test_comments_and_tests_import_nothing(self):
        text = "// crate::b::X\n#[cfg(test)]\nmod tests {\n    use crate::b::X;\n}\n"
        found, _ = graph({"a.rs": text, "b.rs": "use crate::a::Y;"})
        self.assertEqual(found["a.rs"], [])


if __name__ == "__main__":
    unittest.main()
