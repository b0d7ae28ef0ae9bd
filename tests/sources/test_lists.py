"""What comes out of photos with a list of them, as shops and data sets have it."""

import sys

import pytest
from test_layouts import build, check

from lookalike.sources import load, load_catalog

# One list of four photos, in every way to write it; `{...}` of a case is explained in test_layouts.
FOUR = "{1:Küche,2:Küche,3:Bad,4:Bad}"
PLAIN = {"place": "photos/", "name": "catalog.csv", "encoding": "", "comma": ","}
PLAIN |= {"file": "file", "label": "label", "before": "", "after": ".jpg"}
WAYS = {
    "by Excel in Germany": {"comma": ";", "encoding": "cp1252"},
    "by Excel as CSV UTF-8": {"comma": ";", "encoding": "utf-8-sig"},
    "by Excel": {"name": "catalog.xlsx"},
    "apart by tabs": {"comma": "\t", "name": "catalog.tsv"},
    "apart by bars": {"comma": "|"},
    "called CATALOG.CSV": {"name": "CATALOG.CSV", "label": "LABEL"},
    "called labels.csv": {"name": "labels.csv", "file": "id", "label": "breed", "after": ""},
    "called as its owner likes": {"name": "Unsere Produkte.csv", "file": "Bild"},
    "with a German header": {"file": "Dateiname", "label": "Kategorie"},
    "with blanks in its header": {"file": " file", "label": " Label "},
    "with a header that tells nothing": {"file": "x", "label": "class"},
    "with folders": {"before": "photos/"},
    "with where the photos once lay": {"before": "/home/me/old/"},
    "with where they lay on Windows": {"before": "C:\\Users\\me\\Pictures\\"},
    "with addresses": {"before": "https://shop.example/media/"},
    "with suffixes in capitals": {"after": ".JPG"},
    "beside the photos": {"place": ""},
    "among the photos": {"name": "photos/catalog.csv"},
    "away from the photos": {"place": "data/images/", "name": "lists/list.csv"},
}
WAY = """
    {place}{four}.jpg = $1
    list: {name}; {encoding} // row: {file}{comma}{label} // row: {before}{four}{after}{comma}$1
    said: file = {column}"""

LISTS = {
    "H&M, saved by Excel": """
        images/010/0{108775015,108775044}.jpg = Vest top; -; 108775
        images/011/0{110065001,110065002}.jpg = Bra; -; 110065
        list: articles.csv
        row: article_id;product_code;prod_name;product_type_no;product_type_name
        row: {108775015,108775044};108775;Strap top;253;Vest top
        row: {110065001,110065002};110065;OP T-shirt;306;Bra
        said: articles.csv (label = product_type_name, product_id = product_code, file = article_id)
        holds: images/010/0108775015.jpg: prod_name=Strap top""",
    "Fashion Product Images": """
        images/{1163:Tshirts,1164:Tshirts,1165:Watches,1526:Watches}.jpg = $1
        images/1530.jpg - not in styles.csv
        list: styles.csv
        row: id,gender,masterCategory,articleType,baseColour,year,productDisplayName
        row: {1163,1164},Men,Apparel,Tshirts,Blue,2011,Nike Tee
        row: {1165,1526},Women,Accessories,Watches,Black,2012,Fossil "Stella"
        row: 1530,Men,Apparel,Tshirts,Red,2011,Puma, with a comma, and more
        row: 7777,Men,Apparel,Tshirts,Red,2011,Gone
        said: label = articleType; Set aside: 3.
        holds: images/1163.jpg: baseColour=Blue; year=2011""",
    "a shop's products, of each some photos": """
        media/red-shoe{_1,_2, (3)}.jpg = Shoes; -; red-shoe
        media/blue-hat{,_2}.jpg = Hats; -; blue-hat
        list: products_export.csv // row: Handle,Title,Vendor,Type
        row: {red-shoe:Shoes,blue-hat:Hats},A title,We,$1
        said: label = Type, product_id = Handle, file = Handle""",
    "Shopify's export, which labels the first photo of a product": """
        red-shoe-{1,2}.jpg = Shoes; -; red-shoe
        blue-hat-{1,2}.jpg = Hats; -; blue-hat
        list: products_export.csv
        row: Handle,Title,Type,Image Src
        row: red-shoe,A shoe,Shoes,https://cdn.shopify.com/files/red-shoe-1.jpg?v=16
        row: red-shoe,,,https://cdn.shopify.com/files/red-shoe-2.jpg?v=17
        row: blue-hat,A hat,Hats,https://cdn.shopify.com/files/blue-hat-1.jpg?v=18
        row: blue-hat,,,https://cdn.shopify.com/files/blue-hat-2.jpg?v=19
        said: label = Type, product_id = Handle, file = Image Src
        doubt: as label, [''] mean nothing""",
    "a guess that is handed in": """
        train/{a1:bag,a2:bag,a3:hat,a4:hat}.jpg = $1; train // test/{a5,a6}.jpg - not in train.csv
        list: train.csv // row: id,label // row: {a1:bag,a2:bag,a3:hat,a4:hat},$1
        list: sample_submission.csv // row: id,label // row: {a5,a6},bag
        said: Not used: sample_submission.csv""",
    "a list that names two of many": """
        bag/x{1..4}.jpg = bag // hat/y{1..4}.jpg = hat
        list: reviews.csv // row: file,stars // row: x{1,2}.jpg,5 // holds: bag/x1.jpg: stars=5
        said: from the folders in the source; List: reviews.csv (file = file)""",
    "labels that are none": """
        photos/{1:bag,2:bag,3:hat,4:hat,5:-,6:-,7:-}.jpg = $1
        list: catalog.csv // row: file,label
        row: {1:bag,2:bag,3:hat,4:hat,5:NaN,6:N/A,7:}.jpg,$1
        doubt: as label, ['', 'N/A', 'NaN'] mean nothing""",
    "products as Excel leaves them": """
        photos/{1,2}.jpg = bag // photos/{3..6}.jpg = hat // photos/{7,8}.jpg = bag; -; 400638
        list: catalog.csv // row: file;sku;label
        row: {1,2}.jpg;4.00638E+12;bag // row: {3,4}.jpg;4,00638E+12;hat
        row: {5,6}.jpg;;hat // row: {7,8}.jpg;400638;bag
        doubt: as product_id, ['', '4,00638E+12', '4.00638E+12'] mean nothing""",
    "numbers in Excel": """
        photos/{1,2}.jpg = 0; -; 4006381333931 // photos/{3,4}.jpg = 1; -; 17
        list: catalog.xlsx // row: file,label,product_id,2024
        row: {1,2},0,4006381333931,8 // row: {3,4},1,17,9 // holds: photos/1.jpg: 2024=8""",
    "splits": """
        photos/{1:train,2:train,3:validation,4:test,5:validation}.jpg = bag; $1
        photos/{6:test,7:train,8:-}.jpg = hat; $1
        list: catalog.csv // row: file,label,split
        row: {1:train,2:Training,3:VAL,4:test,5:dev}.jpg,bag,$1
        row: {6:TESTING,7: Train,8:reserve}.jpg,hat,$1
        doubt: as split, ['reserve'] mean nothing""",
    "a list for each split": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1; train
        photos/{5:bag,6:hat}.jpg = $1; test
        list: train.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        list: test.csv // row: file,label // row: {5:bag,6:hat}.jpg,$1
        said: from test.csv (label = label, file = file) and train.csv (""",
    "quotes, and columns that are empty": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1, red
        list: catalog.csv // row: file,label,,
        row: {1:bag,2:bag,3:hat,4:hat}.jpg,"$1, red",, // row: ,,,""",
    "the topmost folders, and not the list": """
        {bag,hat}/{a,b}/p#2.jpg = $1 // call: {"label": "top"}
        list: catalog.csv // row: file,label // row: p{1..8}.jpg,red""",
    "columns that tell no label": """
        photos/{1..4}.jpg = - // doubt: no list names a label; columns={"label": ...}
        list: catalog.csv // row: file,alpha // row: {1..4}.jpg,a""",
    "columns as they are told": """
        photos/{1,2}.jpg = bag; train; 001 // photos/{3,4}.jpg = hat; test; 2
        list: liste.csv // row: A;B;C;D;E // row: {1,2}.jpg;bag;001;Training;rot
        row: {3,4}.jpg;hat;2;test;blau // holds: photos/1.jpg: colour=rot
        call: {"columns": {"file":"A","label":"B","product_id":"C","split":"D","colour":"E"}}""",
    "a column that is told and not there": """
        photos/{1,2}.jpg = bag
        list: liste.csv // row: Bild;Kategorie // row: {1,2}.jpg;bag
        call: {"columns": {"label": "Kategory"}} // error: 'Kategory'; 'Bild', 'Kategorie'""",
    "another label than there would be": """
        photos/{1:rot,2:blau,3:rot,4:blau}.jpg = $1
        list: catalog.csv // row: file,label,Farbe // row: {1:rot,2:blau,3:rot,4:blau}.jpg,bag,$1
        call: {"label": "Farbe"} // said: label = Farbe""",
    "a catalogue of other photos": """
        {bag,hat}/p#2.jpg = $1 // error: No list names the photos in; catalog.csv
        list: catalog.csv // row: file,label // row: x{1,2,3}.jpg,bag""",
    "a list of something else": """
        {bag,hat}/p#2.jpg = $1 // said: Not used: prices.csv, sizes.xlsx.
        list: prices.csv // row: article // row: blue bag
        list: sizes.xlsx // row: article,price // row: {blue bag,red hat},12""",
    "a photo twice": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        list: catalog.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        row: 4.jpg,bag // doubt: two rows, or there are two photos, for '4.jpg'""",
    "a name that two photos have": """
        {a,b}/{1:red,2:blue,3:red,4:blue}.jpg = $2
        list: catalog.csv // row: file,label // row: {1:red,2:blue,3:red,4:blue}.jpg,$1
        doubt: two photos, for 'b/1.jpg' and 3 others""",
    "a name that two photos have, with its folder": """
        {a:red,b:blue}/{1,2}.jpg = $1
        list: catalog.csv // row: file,label // row: /home/me/{a:red,b:blue}/{1,2}.jpg,$1""",
    "a catalogue as this project writes it": """
        shoe/{1,2}.png = trainer; train; P1 // shoe/{3,4}.png = boot; test; P2
        list: catalog.csv // row: image_id,product_id,label,split,colour,size,sha256
        row: shoe/{1,2}.png,P1,trainer,train,NA,1e5,00f // row: shoe/{3,4}.png,P2,boot,test,red,,42
        holds: shoe/1.png: colour=NA; size=1e5""",
}
for way, parts in WAYS.items():
    parts = PLAIN | parts
    LISTS[f"a list {way}"] = WAY.format(**parts, four=FOUR, column=parts["file"].strip())


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_list_is_read_right_and_what_is_doubtful_is_said(tmp_path_factory, text, capsys):
    check(tmp_path_factory.mktemp("disk"), text, capsys)


def test_a_log_of_sales_would_fill_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(load, "MAX_LIST_BYTES", 10)
    text = "{bag,hat}/p#2.jpg = $1 // list: sales.csv // row: file,label // row: p{1..4}.jpg,red"
    check(tmp_path, f"{text} // said: Not used: sales.csv.", capsys)


def test_excel_without_openpyxl_is_told_how_to_have_it(tmp_path, monkeypatch):
    build(tmp_path, "{bag,hat}/p#2.jpg = $1 // list: sizes.xlsx // row: file,size // row: p{1,2},9")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.warns(UserWarning, match="sizes.xlsx is not used: .*install the openpyxl"):
        load_catalog("folder", tmp_path)
