"""Words of English by what they do in a description of a picture, as far as `noun_phrases` asks.

The lists hold what T2I-CompBench's validation prompts and descriptions like them use. A word may be missing: an unknown
word is taken for a noun, so that a phrase becomes longer, and none is lost.
"""

from __future__ import annotations

from ..language.vocabulary import NUMBERS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What begins a phrase.
DETERMINERS = _words(
    "a all an another any each every few her his its many my no our several some the their these this those your"
) | frozenset(NUMBERS)

# What stands in no phrase: prepositions, pronouns, conjunctions, auxiliary verbs.
BREAKS = _words(
    "above across after against along alongside am among and apart are around as at away be because been before behind"
    " being below beneath beside besides between both but by can could did do does down during even for forward from"
    " had has have having he him i if in inside into is it itself just like may might must near nearby next nor not"
    " of off on onto or out outside over past she should so than that them themselves then there they through to"
    " together too toward towards under underneath until up us very was we were when where which while who whom"
    " whose will with within without would you"
)

# Verbs that look like nouns, or whose past does not end in "-ed"; behind a noun they end a phrase.
VERBS = _words(
    "added ate attract bake beat blew boil brought burst cast cook cut decorate display displays drives drove eats"
    " features fell flash flew flies flowed gave gives goes grew grows hang hangs held hidden hold holds hung"
    " illuminate jot jumps keep keeps kept lay leans led left lie lies lit looking looks made makes measure mix nap"
    " perch play plays pound provide provides ran reads release rest rests rides rode rose runs sailed sang sank sat"
    " serve serves set shape shines shone shows sit sits sleeps slept slice slices sped spins spread spun stand stands"
    " stir stood strode stuck swam swims takes threw throws told took used walks wears went woke wore write writes"
    " wrote"
)

# Those of them that are nouns as well: behind one thing, or at the end, they are.
PLURAL_VERBS = _words(
    "cast cook cut display flash hold measure mix nap perch play pound release rest set shape slice spread stand stir"
)

# Adjectives, and nouns that say what a thing is made of.
ADJECTIVES = _words(
    "abstract aerial aerodynamic ancient angular artistic beautiful beige big black blue blunt bold bright"
    " brilliant brown bulky bumpy bustling busy calm checkered chilly choppy circular clean clear cold colorful"
    " colourful comfortable conical cool cozy cracked crescent crisp crispy crunchy crystal cubic curious curly"
    " curved curvy cylindrical daily damp dark deep delicate delicious diamond different dim dirty distant dry dull"
    " dusty dynamic eager early earthy electronic elegant emotional empty endless fabric fancy favorite favourite"
    " fiery floral fluffy fragrant fresh friendly full furry fuzzy gentle geometric glass glossy gnarled gold golden"
    " gooey graceful grand gray greasy green grey hairy half happy hard hardcover heavy hexagonal high hot huge"
    " human icy inflatable intricate iridescent jagged juicy large leather light little long loose loud lovely low"
    " lumpy lush majestic marble maroon matte metal metallic modern muddy multicolored murky narrow natural navy new"
    " oblong old only opaque open orange ornate other otherwise oval peaceful pentagonal perfect pillowy pink plain"
    " plastic plump plush polished powerful priceless prickly pungent purple pyramidal quick quiet rectangular red"
    " reedy rich ripe rocky romantic rough round rounded rubber rugged rusted rustic rusty sad satin savory serene"
    " sharp sheer shimmering shiny short silk silky silver sleek slimy slow slushy small smooth soft sour spherical"
    " spicy spiky square stainless sticky stone straight streamlined striking striped stunning sturdy stylish sugary"
    " sweet tall tan tart tasty teal teardrop tender textured therapeutic thick thin thorny tiled timeless tiny"
    " towering translucent transparent triangular unique unlikely urban velvet vibrant vintage virtual vivid warm"
    " wet white whitish wicker wide wooden wool yellow young"
)

# Those adjectives that are things as well.
MATERIALS = _words(
    "crystal diamond fabric glass gold leather light marble metal orange rubber satin silk silver square stone"
    " velvet wool"
)

# Words in "-ing" and "-ed" that are nouns, or "red".
NO_PARTICIPLES = _words(
    "awning bed building ceiling clothing covering dressing duckling earring eating engineering evening feed"
    " flooring frosting icing king lightning lining morning painting pudding railing red reed ring seed shed shred"
    " sled speed spring steed stitching stocking string stuffing swing thing wedding weed wing"
)

# Nouns in "-ly".
NO_ADVERBS = _words("assembly belly bully butterfly dragonfly family firefly fly holly jelly lily")
