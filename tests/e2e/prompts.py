"""Varied prompts for the equivalence test on the embedded model: chat, code, lists, other languages, a long one."""

from __future__ import annotations

CHAT = [
    "Hello! Who are you?",
    "Explain in two sentences why the sky is blue.",
    "Write a short apology to a neighbour for loud music.",
    "What is 17 times 23? Think step by step.",
    "Give me advice for a job interview tomorrow.",
    "Tell a joke about a cat and a keyboard. 🐱",
]
CODE = [
    "Write a Python function that returns the n-th Fibonacci number.",
    "What does this do?\n\nfor i in range(10):\n    print(i * i)\n",
    "Rename x to count and print the code again:\n\nx = 0\nwhile x < 5:\n    x += 1\n    print(x)\n",
    "Write a SQL query for the ten newest orders of each customer.",
    "Fix this JSON: {'a': 1, 'b': [1, 2,], }",
]
LISTS = [
    "List the planets of the solar system, one per line.",
    "Name five fruits, five vegetables and five spices.",
    "Count from 1 to 30.",
    "Repeat the word 'echo' twenty times.",
    "Make a packing list for a weekend in the mountains.",
]
LANGUAGES = [
    "Bonjour, peux-tu me raconter une histoire courte ?",
    "Was ist der Unterschied zwischen Wetter und Klima?",
    "Escribe tres frases sobre el mar.",
    "日本の首都はどこですか。",
    "Расскажи о Москве в одном предложении.",
]
RAW = ["Once upon a time", "def quicksort(items):\n    ", "1, 2, 4, 8, 16,", "The"]

LONG = "Summarise the following log.\n\n" + "\n".join(
    f"Day {day}: the {animal} went to the {place} and counted {day * 7 % 50} stones before {hour} o'clock."
    for day in range(1, 62)
    for animal, place, hour in [
        (("fox", "owl", "hare")[day % 3], ("river", "hill", "field", "wood")[day % 4], day % 12 + 1)
    ]
)
"""A little over 1,500 tokens."""
