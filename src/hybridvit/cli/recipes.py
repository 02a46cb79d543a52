"""hybridvit recipes: what can be trained, on whose word, at what cost."""

import argparse
import json

HELP = "List the training recipes: their model, source, cost and status."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from hybridvit.config import load_recipe, recipe_names

    recipes = {name: load_recipe(name) for name in recipe_names()}
    if args.json:
        print(json.dumps({name: recipe.to_dict() for name, recipe in recipes.items()}, indent=2))
        return 0
    console = Console()
    if not console.is_terminal:
        for name, recipe in recipes.items():
            print("\t".join([name, recipe.model.name, recipe.about.title, recipe.about.cost, recipe.about.status]))
        return 0
    table = Table("recipe", "model", "what", "cost", "status")
    for name, recipe in recipes.items():
        table.add_row(name, recipe.model.name, recipe.about.title, recipe.about.cost, recipe.about.status)
    console.print(table)
    return 0
