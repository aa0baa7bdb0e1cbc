"""What the 80 classes are, said without their names: "the animal that gives us wool".

`TRAINED` phrases are in the prompts that `mini` learns from; `HELD_OUT` ones are not, and test it. A held-out phrase is
made of words of trained ones, at least one of which is said of that class only. No phrase holds a colour, a number, a
relation, or the name of any class. Pure data and a lookup.
"""

from __future__ import annotations

import re

TRAINED: dict[str, tuple[str, ...]] = {
    "person": (
        "someone who can talk", "a human being", "a human who can talk", "someone like you", "the being that can talk",
    ),
    "bicycle": (
        "what a cyclist rides", "the vehicle with pedals", "what you move with pedals", "the vehicle you pedal",
        "what a cyclist has to pedal", "the vehicle for a cyclist",
    ),
    "car": (
        "what stands in the garage", "the vehicle that families drive", "what a family drives on the highway",
        "the vehicle kept in a garage", "what stands in the driveway of a family", "what you leave in the driveway",
    ),
    "motorcycle": (
        "what a biker rides", "what a biker with a helmet rides", "the vehicle that needs a helmet",
        "the loud vehicle for a biker", "the loud thing ridden with a helmet",
    ),
    "airplane": (
        "what a pilot flies", "the vehicle that lands at an airport", "what takes you from airport to airport",
        "the vehicle of a pilot", "what a pilot lands",
    ),
    "bus": (
        "what takes children to school", "the vehicle that takes pupils to school",
        "the public vehicle for many passengers", "the long vehicle for pupils",
        "what many passengers take through the city",
    ),
    "train": (
        "what runs on rails", "the vehicle that runs on tracks", "what you wait for at the station",
        "what leaves the station on rails", "the vehicle on the railway tracks", "the thing on rails",
    ),
    "truck": (
        "the vehicle that carries cargo", "what hauls heavy loads", "the vehicle for heavy freight",
        "what hauls cargo on the road", "what carries freight by road",
    ),
    "boat": (
        "what a sailor sails", "the vehicle that floats on a lake", "what you row with oars",
        "what floats with a sailor", "the vehicle of a sailor", "the thing with oars",
    ),
    "traffic light": (
        "what tells drivers to wait or go", "the lamp at the crossing", "the lamp for drivers at a crossing",
        "what changes its lamps at the crossing", "the lamps that tell drivers to go", "the lamp that makes you wait",
    ),
    "fire hydrant": (
        "what firefighters get water from", "where firefighters attach the hose", "the street pump for firefighters",
        "where the hose gets its water", "the pump on the street that fills hoses",
    ),
    "stop sign": (
        "what makes drivers halt", "the octagon that says halt", "the octagon at the corner",
        "what tells every driver to halt", "the octagon for drivers",
    ),
    "parking meter": (
        "where drivers pay with coins", "the machine that takes coins on the street", "what drivers feed with coins",
        "where you pay to leave a vehicle", "the machine where you pay for the curb",
    ),
    "bench": (
        "the long seat in a park", "where you rest in the park", "the long outdoor seat", "where lovers rest outdoor",
        "what lovers sit on in the park",
    ),
    "bird": (
        "the animal with feathers", "the animal that builds a nest", "what sings in a nest", "the animal with a beak",
        "what lays eggs in a nest", "what has feathers with a beak", "the animal that sings with its beak",
    ),
    "cat": (
        "the pet that purrs", "the animal that says meow", "what purrs on your lap", "the pet that says meow",
        "the pet that purrs when stroked",
    ),
    "dog": (
        "the pet that barks", "our most loyal friend", "the animal on a leash", "what barks at strangers",
        "the loyal animal that barks", "the pet that chews a bone",
    ),
    "horse": (
        "the animal with a saddle", "what a jockey rides", "the animal that gallops", "what a cowboy rides",
        "what gallops with a jockey", "the animal of a jockey",
    ),
    "sheep": (
        "the animal that gives us wool", "what a shepherd guards", "the animal of the shepherd",
        "what wool comes from", "the animal that says baa", "the animal with wool",
    ),
    "cow": (
        "the animal that gives us milk", "the animal that says moo", "what a farmer milks", "where milk comes from",
        "what gives milk to the farmer", "the animal that goes moo",
    ),
    "elephant": (
        "the animal with a trunk", "the animal with tusks", "the largest animal on land", "what has tusks of ivory",
        "what drinks through its trunk",
    ),
    "bear": (
        "the animal that loves honey", "what sleeps all winter in a cave", "the grizzly animal of the forest",
        "the forest animal that steals honey", "the animal that sleeps all winter",
    ),
    "zebra": (
        "the animal with stripes", "the striped animal", "what has stripes in the savanna",
        "the striped animal of the savanna", "what wears stripes like pajamas",
    ),
    "giraffe": (
        "the animal with the long neck", "the tallest animal", "what eats leaves from tall trees",
        "the animal with the longest neck", "what has a neck to reach leaves", "the animal as tall as trees",
    ),
    "backpack": (
        "what hikers carry", "the bag that hikers wear", "the bag on your shoulders",
        "what students carry on their shoulders", "the bag for a hike", "the bag of students",
    ),
    "umbrella": (
        "what keeps you dry in the rain", "what you open when it rains", "what you carry against rain",
        "the thing that keeps off the rain", "what you open against rain", "what you hold when it rains",
    ),
    "handbag": (
        "where a lady keeps her lipstick", "the bag of a lady", "what a lady carries on her arm",
        "the bag for lipstick", "the elegant bag a lady carries",
    ),
    "tie": (
        "what a businessman wears with a suit", "what you knot at your collar", "what hangs from the collar",
        "what goes with a suit", "what a businessman knots at work",
    ),
    "suitcase": (
        "what you pack for a trip", "what travelers fill with clothes", "what you pack clothes in",
        "what travelers take on vacation", "what you pack for a vacation",
    ),
    "frisbee": (
        "the flying disc", "the disc you throw at the beach", "the flying toy you throw",
        "what you throw so that it spins", "the plastic disc that spins",
    ),
    "skis": (
        "what alpine racers wear", "what you race downhill with", "what goes with poles on the slope",
        "what alpine racers use with poles", "what you wear for a downhill slope",
    ),
    "snowboard": (
        "the board for snow", "the board you ride on snow", "what you ride sideways in the mountains",
        "the board for snowy mountains", "what you ride sideways through snow", "the board you ride in the mountains",
    ),
    "sports ball": (
        "what players kick into the goal", "the round thing you kick", "what you kick in a match",
        "the round thing players pass", "what the goalkeeper catches", "what flies past the goalkeeper",
    ),
    "kite": (
        "what flies on a string", "the toy that flies in the wind", "what you fly with a string",
        "the toy on a string", "what the wind lifts on a string",
    ),
    "baseball bat": (
        "what a batter swings", "the wooden club of a batter", "what hits home runs", "the club that hits home runs",
        "what a batter hits with",
    ),
    "baseball glove": (
        "what a catcher wears on his hand", "the leather thing a catcher wears", "what a pitcher wears on his hand",
        "the leather thing of the catcher", "what a fielder catches with",
    ),
    "skateboard": (
        "the board with wheels", "what skaters ride", "the board that skaters jump with",
        "what skaters ride on a ramp", "the board for a ramp",
    ),
    "surfboard": (
        "the board for waves", "what you ride on a wave", "what rides the waves in hawaii",
        "the board you paddle on the ocean", "what you stand on to ride waves", "the board for the ocean",
    ),
    "tennis racket": (
        "what you serve with at wimbledon", "the strings you play with on court", "what has strings for the court",
        "what you serve aces with", "what you swing on court", "what players swing at wimbledon",
        "what you play on court with",
    ),
    "bottle": (
        "what has a cork", "what you pull the cork from", "the container with a cap",
        "the container that messages travel in", "the container you uncork", "what you uncork for the guests",
        "what you close with a cap",
    ),
    "wine glass": (
        "what a sommelier fills", "the stemmed vessel for merlot", "what you clink for cheers",
        "what you pour merlot into", "the stemmed vessel you clink", "the vessel of a sommelier",
    ),
    "cup": (
        "what you drink coffee from", "what stands on a saucer", "what you drink tea from", "the vessel for tea",
        "what you fill with warm coffee", "the vessel for warm coffee", "the thing on a saucer",
    ),
    "fork": (
        "what you spear food with", "the cutlery with prongs", "what you twirl spaghetti with",
        "what has prongs to spear", "what you eat spaghetti with", "the thing for spaghetti",
        "the prongs that spear your food",
    ),
    "knife": (
        "what you cut bread with", "the sharp blade in the kitchen", "what a chef cuts with",
        "the sharp thing that cuts meat", "what has a sharp blade",
    ),
    "spoon": (
        "what you eat soup with", "what you stir with", "the cutlery for soup", "what you stir sugar with",
        "what you eat yogurt with", "the thing to stir soup",
    ),
    "bowl": (
        "what you eat cereal from", "the dish for cereal", "the round dish for salad", "what you toss salad in",
        "the deep dish for porridge",
    ),
    "banana": (
        "the fruit that monkeys love", "the curved fruit you peel", "what monkeys peel", "the curved fruit",
        "what a monkey eats in the jungle",
    ),
    "apple": (
        "the fruit that keeps the doctor away", "what newton saw falling", "the fruit that fell on newton",
        "the fruit of adam", "what keeps the doctor away", "the fruit that eve gave adam",
    ),
    "sandwich": (
        "the lunch with ham inside", "what holds ham with lettuce", "what you eat from a lunchbox",
        "the lunch with lettuce inside", "what you bring in a lunchbox",
    ),
    "orange": (
        "the citrus fruit", "the citrus fruit for breakfast juice", "the fruit we press for juice",
        "what gives us citrus juice", "what we press for vitamins",
    ),
    "broccoli": (
        "the vegetable that kids hate", "what kids hate to eat", "the vegetable with florets", "the healthy florets",
        "what looks like a tiny tree", "the healthy vegetable like a tree",
    ),
    "carrot": (
        "the vegetable that rabbits love", "what rabbits nibble", "the root that rabbits eat", "the nose of a snowman",
        "what a snowman has for a nose",
    ),
    "hot dog": (
        "the sausage in a bun", "what you eat with mustard", "the sausage with mustard", "what is sold at the stadium",
        "the bun sold at the stadium",
    ),
    "pizza": (
        "the dish from naples", "what has pepperoni with cheese", "the italian dish with cheese",
        "what is delivered with pepperoni", "the cheese dish from naples",
    ),
    "donut": (
        "the sweet ring with glaze", "the pastry with a hole", "what police officers snack on", "the glazed ring",
        "the sweet pastry with a hole", "the glazed snack of police officers",
    ),
    "cake": (
        "what has candles on a birthday", "what you eat at a birthday", "the sweet thing with candles",
        "what the bride cuts", "the dessert for a birthday", "the dessert that a bride cuts",
    ),
    "chair": (
        "the seat with a backrest", "what you sit on at a desk", "the seat at a desk", "what has legs with a backrest",
        "the wooden seat for a desk", "the thing with a backrest",
    ),
    "couch": (
        "the soft seat in the living room", "what stands in the living room", "where you relax in the living room",
        "the soft seat to relax on", "where you lounge on soft cushions",
    ),
    "potted plant": (
        "what a gardener waters", "what grows on the windowsill", "what you water on the windowsill",
        "what a gardener grows indoors", "the indoors thing that needs sunshine", "what has to grow indoors",
    ),
    "bed": (
        "where you sleep at night", "what has a mattress", "what has a pillow for your head", "where you dream",
        "what you sleep on with a blanket", "the furniture where you sleep", "what you dream in at night",
    ),
    "dining table": (
        "where guests eat dinner", "what you set for dinner guests", "the furniture for dinner",
        "what guests gather around", "where dinner is served", "where the guests gather to eat",
    ),
    "toilet": (
        "what you flush", "the thing in the restroom", "what you flush in the restroom", "the porcelain throne",
        "the throne that you flush",
    ),
    "tv": (
        "what you watch movies on", "the screen for movies", "the screen where you watch the news",
        "what shows the news", "what you watch shows on", "the thing that shows movies",
    ),
    "laptop": (
        "the portable computer", "the computer you fold", "what programmers carry to a cafe",
        "the computer that programmers fold", "the portable thing with a screen",
    ),
    "computer mouse": (
        "what you click with", "what moves the cursor", "what you click on icons with", "what points the cursor",
        "the thing that moves the cursor",
    ),
    "tv remote": (
        "what changes the channel", "what you zap channels with", "what you switch channels with",
        "the thing that changes channels", "what zaps from afar", "what switches channels from afar",
    ),
    "computer keyboard": (
        "what you type on", "what has letters for typing", "what a typist uses", "the thing with letters you type on",
        "what writers type on", "the thing for typing", "the thing writers use",
    ),
    "cell phone": (
        "what you call your mother with", "what rings in your pocket", "what you take selfies with",
        "what you call friends with", "what takes selfies from your pocket", "the thing for selfies",
    ),
    "microwave": (
        "what heats leftovers in seconds", "what makes popcorn", "what heats popcorn",
        "the machine that heats leftovers", "what warms leftovers", "the popcorn machine",
    ),
    "oven": (
        "where you bake cookies", "where a baker bakes", "where you roast a turkey", "the thing that bakes cookies",
        "what you roast a turkey in",
    ),
    "toaster": (
        "what makes toast", "what pops up at breakfast", "the machine that pops up toast", "what makes slices crispy",
        "the machine for crispy toast", "the toast machine",
    ),
    "sink": (
        "where you wash the dishes", "the basin with a faucet", "where you wash your hands",
        "what has a faucet with a drain", "the basin in the kitchen",
    ),
    "refrigerator": (
        "what keeps food cold", "where you keep food fresh", "the cold box for groceries",
        "what keeps groceries fresh", "the cold box in the kitchen",
    ),
    "book": (
        "what has pages", "what an author writes", "what you borrow from the library", "what you read page by page",
        "what you read in the library", "the novel of an author",
    ),
    "clock": (
        "what tells the time", "what ticks on the wall", "what says tick tock", "what shows the hours",
        "the thing that ticks every hour", "the thing that knows the time",
    ),
    "vase": (
        "what holds flowers", "the vessel for roses", "what you put a bouquet in", "what holds a bouquet",
        "the ceramic vessel for flowers", "what you put roses in",
    ),
    "scissors": (
        "what cuts paper", "what a barber cuts with", "what a tailor cuts fabric with", "what snips paper",
        "what a barber snips with", "the thing that snips", "the thing a tailor cuts fabric with",
    ),
    "teddy bear": (
        "the cuddly toy", "what a child hugs at bedtime", "the plush toy", "the plush animal",
        "the cuddly thing a child hugs",
    ),
    "hair drier": (
        "what blows warm air", "what a hairdresser blows with", "what dries you after a shower",
        "what a hairdresser uses after a shower", "what blows you dry after a shower", "the thing with warm air",
    ),
    "toothbrush": (
        "what you clean your teeth with", "what goes with toothpaste", "what dentists want you to use",
        "what you put toothpaste on", "what cleans your teeth", "what needs toothpaste to clean",
    ),
}  # fmt: skip

HELD_OUT: dict[str, tuple[str, ...]] = {
    "person": ("a being who can talk", "someone who is human"),
    "bicycle": ("the vehicle that a cyclist rides", "what has pedals for a cyclist"),
    "car": ("what a family keeps in the garage", "the vehicle in the driveway"),
    "motorcycle": ("the vehicle that a biker rides", "the loud thing of a biker"),
    "airplane": ("the vehicle that a pilot flies", "what a pilot flies from the airport"),
    "bus": ("the vehicle that takes children to school", "what pupils take to school"),
    "train": ("the vehicle that runs on rails", "what leaves the station on tracks"),
    "truck": ("the vehicle that hauls freight", "what carries heavy cargo"),
    "boat": ("the vehicle that a sailor sails", "the vehicle you row with oars"),
    "traffic light": ("what tells drivers to go at the crossing", "the lamp that tells you to wait"),
    "fire hydrant": ("the pump that firefighters attach a hose to", "where firefighters get water for the hose"),
    "stop sign": ("the octagon that makes drivers halt", "what says halt at the corner"),
    "parking meter": ("the machine that drivers feed with coins", "what you pay with coins on the street"),
    "bench": ("the outdoor seat in the park", "where lovers sit in the park"),
    "bird": ("what has a beak", "the animal with feathers that lays eggs"),
    "cat": ("the animal that purrs", "what says meow on your lap"),
    "dog": ("the loyal pet on a leash", "the animal that barks at strangers"),
    "horse": ("the animal that a jockey rides", "what gallops with a saddle"),
    "sheep": ("the animal that a shepherd guards", "where wool comes from"),
    "cow": ("the animal that a farmer milks", "what says moo"),
    "elephant": ("the largest animal with tusks", "the animal that drinks through a trunk"),
    "bear": ("the animal that sleeps in a cave", "what loves honey in the forest"),
    "zebra": ("the animal that wears stripes", "what is striped in the savanna"),
    "giraffe": ("what has the longest neck", "the animal that eats from tall trees"),
    "backpack": ("the bag that students carry", "what hikers wear on their shoulders"),
    "umbrella": ("what keeps you dry when it rains", "the thing you carry in the rain"),
    "handbag": ("what a lady has for her lipstick", "the elegant bag on her arm"),
    "tie": ("what you knot with a suit", "what a businessman wears at his collar"),
    "suitcase": ("what travelers pack for a trip", "where you keep clothes on vacation"),
    "frisbee": ("the disc that you throw", "the plastic disc flying at the beach"),
    "skis": ("what alpine racers go downhill with", "what you wear with poles on the slope"),
    "snowboard": ("the board for the mountains", "what you stand sideways on in snow"),
    "sports ball": ("the round thing the goalkeeper catches", "what players kick in a match"),
    "kite": ("the toy you fly in the wind", "what the wind lifts"),
    "baseball bat": ("the wooden club that a batter swings", "what a batter hits home runs with"),
    "baseball glove": ("the leather thing on his hand", "what a fielder wears on his hand"),
    "skateboard": ("the board that skaters ride", "what has wheels for a ramp"),
    "surfboard": ("the board that rides the waves", "what you ride on the ocean"),
    "tennis racket": ("what you serve with on court", "what you play with at wimbledon"),
    "bottle": ("the container with a cork", "what has a cap"),
    "wine glass": ("the vessel that a sommelier fills", "what you clink with merlot"),
    "cup": ("the vessel for coffee", "the vessel on a saucer"),
    "fork": ("the cutlery for spaghetti", "the thing with prongs"),
    "knife": ("the sharp thing that a chef cuts with", "the blade you cut meat with"),
    "spoon": ("the cutlery you stir with", "what you stir soup with"),
    "bowl": ("the deep dish for cereal", "the dish that you toss salad in"),
    "banana": ("the fruit that monkeys peel", "the curved thing that a monkey eats"),
    "apple": ("the fruit that newton saw", "what eve gave adam"),
    "sandwich": ("the lunch in a lunchbox", "what has ham inside for lunch"),
    "orange": ("the citrus fruit that we press", "the fruit that gives us juice"),
    "broccoli": ("what has healthy florets", "the vegetable like a tiny tree"),
    "carrot": ("the root that rabbits nibble", "the vegetable on the nose of a snowman"),
    "hot dog": ("the sausage sold at the stadium", "the bun with mustard"),
    "pizza": ("the italian dish with pepperoni", "the dish with cheese from naples"),
    "donut": ("the ring with a hole", "the glazed pastry"),
    "cake": ("the dessert with candles", "the sweet thing for a birthday"),
    "chair": ("the wooden seat with a backrest", "where you sit at a desk"),
    "couch": ("the soft thing where you relax", "where you lounge in the living room"),
    "potted plant": ("what a gardener grows on the windowsill", "what you water indoors"),
    "bed": ("where you sleep with a pillow", "where you dream at night"),
    "dining table": ("the furniture where guests gather", "where guests gather for dinner"),
    "toilet": ("the porcelain thing you flush", "the throne in the restroom"),
    "tv": ("the screen that shows movies", "what you watch the news on"),
    "laptop": ("the computer that programmers carry", "the portable computer you fold"),
    "computer mouse": ("the thing you click icons with", "the thing that points the cursor"),
    "tv remote": ("the thing that zaps channels", "the thing you switch channels with"),
    "computer keyboard": ("the thing with letters for a typist", "what writers use for typing"),
    "cell phone": ("the thing you take selfies with", "what you call with from your pocket"),
    "microwave": ("the machine that makes popcorn", "the machine that warms leftovers"),
    "oven": ("where you roast cookies", "where a baker bakes a turkey"),
    "toaster": ("the machine that makes toast", "what pops up crispy slices"),
    "sink": ("the basin where you wash dishes", "what you wash your hands in"),
    "refrigerator": ("the box that keeps food fresh", "what keeps groceries cold"),
    "book": ("what an author fills with pages", "the novel that you read"),
    "clock": ("the thing that shows the time", "what ticks every hour"),
    "vase": ("the vessel that holds roses", "the ceramic thing for a bouquet"),
    "scissors": ("what a tailor snips with", "the thing that snips fabric"),
    "teddy bear": ("the plush toy that a child hugs", "the cuddly toy for bedtime"),
    "hair drier": ("the thing that blows warm air", "what a hairdresser dries you with"),
    "toothbrush": ("what dentists clean teeth with", "what you use with toothpaste"),
}  # fmt: skip

PHRASES: dict[str, str] = {
    phrase: name for table in (TRAINED, HELD_OUT) for name, phrases in table.items() for phrase in phrases
}

# Longest first, or "what blows warm air" would cut a longer phrase in two.
_ANY_PHRASE = re.compile(rf"\b(?:{'|'.join(sorted(PHRASES, key=len, reverse=True))})\b")


def named(sentence: str) -> str:
    """The sentence, lower case, with the name of its class, and an article, in place of each phrase."""
    return _ANY_PHRASE.sub(lambda match: f"a {PHRASES[match[0]]}", sentence)
